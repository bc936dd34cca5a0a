//! Go, and Rust with axum.

use super::{left_out, pushed};

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

#[test]
fn axum_by_its_lock() {
    if left_out(&["cargo", "cc"]) {
        return;
    }
    let manifest = "[package]
name = \"hello\"
version = \"0.1.0\"
edition = \"2021\"

[dependencies]
axum = \"0.8\"
tokio = { version = \"1\", features = [\"full\"] }
";
    let app = "use axum::{Router, routing::get};

#[tokio::main]
async fn main() {
    let app = Router::new().route(\"/\", get(|| async { \"hello from axum\" }));
    let port = std::env::var(\"PORT\").unwrap();
    let listener = tokio::net::TcpListener::bind(format!(\"0.0.0.0:{port}\")).await.unwrap();
    axum::serve(listener, app).await.unwrap();
}
";
    let make = format!(
        "cat >Cargo.toml <<'X'\n{manifest}X\nmkdir src; cat >src/main.rs <<'X'\n{app}X\nCARGO_HOME=$PWD/../cargo cargo generate-lockfile"
    );
    let remote = pushed(
        &[
            ("Procfile", "web: target/release/hello\n"),
            (".gitignore", "/target\n"),
        ],
        &make,
        "/",
        "hello from axum",
    );
    assert!(
        remote.contains("cargo build --release --locked"),
        "{remote}"
    );
}
