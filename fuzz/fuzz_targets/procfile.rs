//! A Procfile: what is read of it stands in it, keeps the bounds, and is read again from what is written of it.

#![no_main]

use dyno::bounds::within;
use dyno::error::UserError;
use dyno::model::procfile::{MAX_BYTES, MAX_PROCESS_TYPES, is_process_type_name, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let read = within(8 * data.len() + 64 * 1024, || parse(data));
    let types = match read {
        Ok(types) => types,
        Err(error) => {
            let error = UserError::from(error);
            assert!(error.message.len() < 1024 && !error.message.contains(char::is_control));
            return;
        }
    };
    assert!(data.len() <= MAX_BYTES && types.len() <= MAX_PROCESS_TYPES);
    let mut written = String::new();
    for (at, it) in types.iter().enumerate() {
        assert!(is_process_type_name(&it.name) && !it.command.trim().is_empty());
        assert!(!it.command.contains(['\n', '\0']));
        assert!(types[..at].iter().all(|earlier| earlier.name != it.name));
        written += &format!("{}: {}\n", it.name, it.command);
    }
    // A carriage return before the line feed would be one of the line's end.
    if !written.contains("\r\n") && written.len() <= MAX_BYTES {
        assert_eq!(parse(written.as_bytes()), Ok(types));
    }
});
