//! Node.js: Express, Vite and Next.js.

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

#[test]
fn next_built_and_served_without_a_procfile() {
    if left_out(&["node", "npm"]) {
        return;
    }
    let page = "export const getServerSideProps = () => ({ props: { node: process.env.NODE_ENV } })
export default function Page({ node }) { return <p>hello from next in {node}</p> }
";
    let remote = pushed(
        &[
            ("pages/index.js", page),
            (".gitignore", "node_modules\n.next\n"),
        ],
        "echo '{ \"name\": \"shop\", \"private\": true }' >package.json; npm pkg set scripts.build='next build' scripts.start='next start' >log
         npm install --package-lock-only next@15 react@19 react-dom@19 >log; rm log",
        "/",
        "<p>hello from next in <!-- -->production</p>",
    );
    assert!(remote.contains("-----> Running build"), "{remote}");
}
