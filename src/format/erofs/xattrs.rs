//! Extended attributes, stored beside their inode.

use crate::error::{Fault, Kind, Result};
use std::collections::BTreeMap;

/// Name prefixes that the format has numbers for. The two ACLs are whole names.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];
/// Bytes before the first attribute: a name filter (unused) and the number of shared attributes (none).
const HEADER: usize = 12;
/// The inode counts attribute bytes in 4-byte units with 16 bits.
const MAX: usize = HEADER + 4 * (u16::MAX as usize - 1);

/// The attributes as they stand behind their inode, in order of their names; empty when there are none.
///
/// # Errors
/// [`Kind::Build`] for a name outside `user.`, `trusted.`, `security.` and the POSIX ACLs, and for too much.
pub(super) fn encode(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Vec<u8>> {
    if xattrs.is_empty() {
        return Ok(Vec::new());
    }
    let mut out = vec![0; HEADER];
    for (name, value) in xattrs {
        let refuse = |why: &str| {
            let name = crate::tree::show(name);
            Fault::new(Kind::Build, format!("the extended attribute `{name}` cannot be stored: {why}"))
        };
        let found = PREFIXES.iter().find_map(|(prefix, index)| Some((*index, name.strip_prefix(*prefix)?)));
        let (index, rest) = found.ok_or_else(|| refuse("EROFS has no such class"))?;
        // An ACL is a whole name; any other class needs something behind its prefix.
        if rest.is_empty() != matches!(index, 2 | 3) {
            return Err(refuse("EROFS has no such name").into());
        }
        // Linux takes no longer name, and the whole name counts: it would be listed and could never be read.
        if name.len() > 255 {
            return Err(refuse("its name is over 255 bytes").into());
        }
        if rest.contains(&0) {
            return Err(refuse("its name has a zero byte").into());
        }
        let name_len = u8::try_from(rest.len())?;
        let value_len = u16::try_from(value.len()).map_err(|_| refuse("its value is over 65535 bytes"))?;
        out.extend([name_len, index]);
        out.extend(value_len.to_le_bytes());
        out.extend_from_slice(rest);
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    if out.len() > MAX {
        return Err(Fault::new(Kind::Build, "the extended attributes of one path exceed 256 KiB").into());
    }
    Ok(out)
}
