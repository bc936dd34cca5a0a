//! Go.

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
