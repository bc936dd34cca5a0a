//! Apps as people begin them: made by the tools of their own world, with a manifest and a lock and nothing installed, pushed with git, and
//! asked over the router.
//!
//! They need package registries, so that `.ci/starters` alone has them run (`DYNO_TEST_STARTERS=all`); a tool that is missing is a failure then.

use std::path::Path;
use std::process::Command;

use crate::git_push::Checkout;
use crate::harness::{Host, eventually, lacks_walls, leave_out, own_router};
use crate::routing::{get, router};

/// Whether starters are not asked for, or cannot be built. The test is over then, and this has said so.
fn left_out(tools: &[&str]) -> bool {
    if std::env::var_os("DYNO_TEST_STARTERS").is_none() {
        leave_out("starters: they need package registries; `.ci/starters` runs them");
        return true;
    }
    let folders = ["/usr/local/bin", "/usr/bin", "/bin"];
    for tool in tools {
        let is_there = |folder: &&str| Path::new(folder).join(tool).exists();
        assert!(
            folders.iter().any(is_there),
            "`{tool}` is in no system folder"
        );
    }
    lacks_walls()
}

/// Makes a starter of these files and by these commands, pushes it, and waits until its page holds `words`. What the push has said.
fn pushed(files: &[(&str, &str)], made_by: &str, path: &str, words: &str) -> String {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60"), ("DYNO_ROUTER", &own_router())]);
    let checkout = Checkout::of_app(&host, "shop");
    checkout.git(&["rm", "-q", "Procfile"]).succeeds();
    let made = Command::new("sh")
        .args(["-ec", made_by])
        .current_dir(&checkout.folder)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{made_by}: {said}");
    for (name, text) in files {
        checkout.write(name, text);
    }
    checkout.commit("Begins");
    let remote = checkout.push().succeeds().remote();
    let router = router(&host);
    eventually(&format!("{words:?} at {path}: {remote}"), || {
        let (status, body) = get(router, path);
        (status == 200 && body.contains(words)).then_some(())
    });
    remote
}

#[test]
fn flask_with_gunicorn() {
    if left_out(&["python3"]) {
        return;
    }
    let app = "from flask import Flask\napp = Flask(__name__)\n@app.get('/')\ndef page():\n    return 'hello from flask'\n";
    let remote = pushed(
        &[
            ("requirements.txt", "flask==3.*\ngunicorn==23.*\n"),
            ("app.py", app),
            ("Procfile", "web: gunicorn app:app\n"),
        ],
        "true",
        "/",
        "hello from flask",
    );
    assert!(remote.contains("-----> Python app detected"), "{remote}");
}

#[test]
fn fastapi_with_uvicorn() {
    if left_out(&["python3"]) {
        return;
    }
    let app = "from fastapi import FastAPI\napp = FastAPI()\n@app.get('/items/{number}')\ndef item(number: int):\n    return {'twice': 2 * number}\n";
    pushed(
        &[
            ("requirements.txt", "fastapi==0.*\nuvicorn[standard]==0.*\n"),
            ("main.py", app),
            (
                "Procfile",
                "web: uvicorn main:app --host 0.0.0.0 --port $PORT\n",
            ),
        ],
        "true",
        "/items/21",
        "{\"twice\":42}",
    );
}

#[test]
fn django_with_its_static_files() {
    if left_out(&["python3"]) {
        return;
    }
    let make = "python3 -m venv ../venv; ../venv/bin/pip install -q 'django==5.*'
        ../venv/bin/django-admin startproject shop .
        cat >> shop/settings.py <<'X'
ALLOWED_HOSTS = ['*']
STATIC_ROOT = BASE_DIR / 'staticfiles'
MIDDLEWARE.insert(1, 'whitenoise.middleware.WhiteNoiseMiddleware')
X";
    let remote = pushed(
        &[
            (
                "requirements.txt",
                "django==5.*\ngunicorn==23.*\nwhitenoise==6.*\n",
            ),
            (
                "Procfile",
                "web: gunicorn shop.wsgi\nrelease: python manage.py check\n",
            ),
        ],
        make,
        "/static/admin/css/base.css",
        "DJANGO",
    );
    assert!(remote.contains("static files copied"), "{remote}");
}

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
fn go_without_a_procfile() {
    if left_out(&["go"]) {
        return;
    }
    let app = "package main\nimport (\"fmt\"; \"net/http\"; \"os\")\nfunc main() {\n\thttp.HandleFunc(\"/\", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, \"hello from go\") })\n\thttp.ListenAndServe(\":\"+os.Getenv(\"PORT\"), nil)\n}\n";
    pushed(
        &[("main.go", app)],
        "HOME=$PWD/.. go mod init example.org/shop",
        "/",
        "hello from go",
    );
}
