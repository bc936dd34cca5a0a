//! PHP: pages alone, and with what composer installs.

use super::{left_out, pushed};

#[test]
fn php_pages_alone() {
    if left_out(&["php"]) {
        return;
    }
    let page = "<?php\nheader('Content-Length: 14');\necho 'hello from php';\n";
    let remote = pushed(&[("index.php", page)], "true", "/", "hello from php");
    assert!(remote.contains("-----> PHP app detected"), "{remote}");
}

/// The package is in the app itself, as in a repository of several: Packagist is not wherever the other registries are.
#[test]
fn php_with_what_composer_installs() {
    if left_out(&["php", "composer"]) {
        return;
    }
    let manifest = r#"{
    "repositories": [{"type": "path", "url": "packages/*", "options": {"symlink": false}}, {"packagist.org": false}],
    "require": {"shop/greeter": "^1.0"}
}
"#;
    let package =
        r#"{"name": "shop/greeter", "version": "1.0.0", "autoload": {"psr-4": {"Shop\\": "src"}}}"#;
    let class = "<?php\nnamespace Shop;\nclass Greeter {\n    public function greet() { return 'hello from composer'; }\n}\n";
    let page = "<?php\nrequire '../vendor/autoload.php';\nheader('Content-Length: 19');\necho (new Shop\\Greeter)->greet();\n";
    let make = format!(
        "mkdir -p packages/greeter/src; cat >composer.json <<'X'\n{manifest}X\n\
         cat >packages/greeter/composer.json <<'X'\n{package}\nX\n\
         COMPOSER_ALLOW_SUPERUSER=1 COMPOSER_HOME=$PWD/../composer composer update --quiet --no-install"
    );
    let remote = pushed(
        &[
            ("packages/greeter/src/Greeter.php", class),
            ("public/index.php", page),
            (".gitignore", "/vendor/\n"),
        ],
        &make,
        "/",
        "hello from composer",
    );
    assert!(remote.contains("composer install"), "{remote}");
}
