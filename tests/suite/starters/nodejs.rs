//! Node.js: Express and Vite.

use super::{left_out, pushed};

#[test]
fn express_by_its_lock() {
    if left_out(&["node", "npm"]) {
        return;
    }
    let app = "const app = require('express')()\napp.get('/', (_, answer) => answer.send('hello from express'))\napp.listen(process.env.PORT)\n";
    let remote = pushed(
        &[("server.js", app), (".gitignore", "node_modules\n")],
        "npm init -y >made; npm pkg set scripts.start='node server.js' >made; npm install --package-lock-only express@5 >made; rm made",
        "/",
        "hello from express",
    );
    assert!(remote.contains("npm ci"), "{remote}");
    assert!(
        remote.contains("Default types for buildpack -> web"),
        "{remote}"
    );
}

#[test]
fn vite_built_and_served() {
    if left_out(&["node", "npm"]) {
        return;
    }
    let remote = pushed(
        &[
            (
                "Procfile",
                "web: vite preview --host 0.0.0.0 --port $PORT --strictPort\n",
            ),
            (
                "vite.config.js",
                "export default { preview: { allowedHosts: true } }\n",
            ),
        ],
        "npm create -y vite@5 made -- --template vanilla >log; cp -r made/. .; rm -r made log
         npm pkg set dependencies.vite=^5.0.0 >log; npm pkg delete devDependencies >log; npm install --package-lock-only >log; rm log",
        "/",
        "/assets/index-",
    );
    assert!(remote.contains("-----> Running build"), "{remote}");
}
