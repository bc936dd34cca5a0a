//! A `.env` file: what is read of it has names that a shell can export, no secret is in an error, and what is written of it,
//! by `config -s` too, is read as the same.

#![no_main]

use dyno::bounds::within;
use dyno::dot_env::{MAX_BYTES, line, parse};
use dyno::model::command_line::quote;
use dyno::model::config_var::is_name;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let read = within(16 * data.len() + 64 * 1024, || parse(data, ".env"));
    let variables = match read {
        Ok(variables) => variables,
        Err(error) => {
            let number = |c: char| if c.is_ascii_digit() { '0' } else { c };
            let said: String = error.message.chars().map(number).collect();
            let said = said
                .replace("00", "0")
                .replace("00", "0")
                .replace("00", "0");
            assert!(error.message.len() < 160);
            let known = [
                "it is not UTF-0",
                "it has no `=`",
                "what stands before the `=` is no name of a variable",
                "a quote is not closed",
                "something follows the closing quote",
                "it has a NUL byte",
            ];
            let is_known = known
                .iter()
                .any(|why| said == format!("`.env` is not valid in line 0: {why}"));
            assert!(is_known || data.len() > MAX_BYTES, "{said}");
            return;
        }
    };
    assert!(data.len() <= MAX_BYTES);
    let (mut lines, mut quoted) = (String::new(), String::new());
    for (name, value) in &variables {
        assert!(is_name(name) && !value.contains('\0'));
        lines += &line(name, value);
        quoted += &format!("{name}={}\n", quote(value));
    }
    for text in [lines, quoted] {
        if text.len() <= MAX_BYTES {
            assert_eq!(
                parse(text.as_bytes(), ".env").as_ref(),
                Ok(&variables),
                "{text}"
            );
        }
    }
});
