//! What the linker has noted about this program, read from memory, without opening its file.

use std::ffi::c_void;
use std::slice;

/// Type and owner of the note that has a hash of the contents (elf(5)).
const BUILD_ID: u32 = 3;
const OWNER: &[u8] = b"GNU\0";

/// The hash of this program's contents that the linker has put into it; None if the linker has put none.
pub fn build_id() -> Option<Vec<u8>> {
    let mut found: Option<Vec<u8>> = None;
    // SAFETY: `look` is called before this returns, with the pointer to `found`, which nothing else uses meanwhile.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut found).cast()) };
    found
}

/// Looks through the notes of the first object, which is the program itself; the result ends the walk.
unsafe extern "C" fn look(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    found: *mut c_void,
) -> libc::c_int {
    // SAFETY: libc passes a valid description, whose headers are there for as long as the program is.
    let (base, headers) = unsafe {
        let info = &*info;
        (
            info.dlpi_addr,
            slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()),
        )
    };
    for header in headers
        .iter()
        .filter(|header| header.p_type == libc::PT_NOTE)
    {
        let start = base.wrapping_add(header.p_vaddr) as usize as *const u8;
        // SAFETY: the linker lays notes into a segment that is loaded, at this address and of this length.
        let notes = unsafe { slice::from_raw_parts(start, header.p_memsz as usize) };
        if let Some(id) = build_id_in(notes, header.p_align as usize) {
            // SAFETY: `found` is what `build_id` passed: an Option that only this call uses.
            unsafe { *found.cast::<Option<Vec<u8>>>() = Some(id.to_vec()) };
            break;
        }
    }
    1
}

/// The build id among the notes of a segment.
fn build_id_in(mut notes: &[u8], align: usize) -> Option<&[u8]> {
    let align = if align == 8 { 8 } else { 4 };
    loop {
        let (head, rest) = notes.split_first_chunk::<12>()?;
        let number = |at: usize| {
            let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
            u32::from_ne_bytes(bytes) as usize
        };
        let (name, description) = (number(0), number(4));
        let owner = rest.get(..name)?;
        let rest = rest.get(name.next_multiple_of(align)..)?;
        let content = rest.get(..description)?;
        if number(8) == BUILD_ID as usize && owner == OWNER {
            return Some(content);
        }
        notes = rest.get(description.next_multiple_of(align)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(owner: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for number in [owner.len() as u32, content.len() as u32, kind] {
            note.extend_from_slice(&number.to_ne_bytes());
        }
        for part in [owner, content] {
            note.extend_from_slice(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn the_build_id_is_found_among_other_notes() {
        let (other, id) = (note(OWNER, 1, &[0; 16]), note(OWNER, 3, &[7; 20]));
        let foreign = note(b"Go\0\0", 3, &[1; 8]);
        let notes = [other.clone(), foreign, id.clone()].concat();
        assert_eq!(build_id_in(&notes, 4), Some(&[7; 20][..]));
        assert_eq!(build_id_in(&other, 4), None);
        assert_eq!(build_id_in(&id[..id.len() - 1], 4), None);
        assert_eq!(build_id_in(&[], 4), None);
        let huge = [&u32::MAX.to_ne_bytes()[..], &[0; 8]].concat();
        assert_eq!(build_id_in(&huge, 4), None);
    }

    #[test]
    fn this_program_has_one() {
        let id = build_id().unwrap();
        assert_eq!(id.len(), 20);
        assert_eq!(build_id().unwrap(), id);
    }
}
