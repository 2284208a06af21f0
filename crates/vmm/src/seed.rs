//! The volume that cloud-init reads: ISO 9660 with Joliet names, labelled `cidata`.
//!
//! Formats: ECMA-119 (ISO 9660) and the Joliet specification; what cloud-init
//! looks for: its documentation of the data source `NoCloud`. The volume follows
//! from the spec alone, so every host makes the same bytes.

use types::{CloudInit, VmId};

const SECTOR: usize = 2048;
/// Sectors before the first volume descriptor, which belong to the system.
const SYSTEM: usize = 16;
/// Path tables and root directories: plain names, then Joliet's.
const TABLES: [usize; 2] = [19, 21];
const ROOTS: [usize; 2] = [23, 24];
const FILES: usize = 25;
/// The smallest volume, because some readers look ahead.
const SMALLEST: usize = 32;

/// A file of the volume.
struct Document {
    /// As cloud-init names it. In capitals it is the plain name, too: ISO 9660 knows
    /// no hyphen, and every reader takes it.
    name: &'static str,
    text: String,
    sector: usize,
}

/// The volume of a VM's seed.
pub(crate) fn volume(seed: &CloudInit, vm: VmId, name: &str) -> Vec<u8> {
    let given = |text: &Option<types::SeedText>| text.as_ref().map(|t| t.text().to_owned());
    let meta = || format!("instance-id: {vm}\nlocal-hostname: {name}\n");
    let mut documents = vec![
        document("meta-data", given(&seed.meta_data).unwrap_or_else(meta)),
        document("user-data", given(&seed.user_data).unwrap_or_default()),
    ];
    if let Some(network) = given(&seed.network_config) {
        documents.insert(1, document("network-config", network));
    }
    write(documents)
}

fn document(name: &'static str, text: String) -> Document {
    Document { name, text, sector: 0 }
}

/// Documents must be sorted by their names.
fn write(mut documents: Vec<Document>) -> Vec<u8> {
    let mut end = FILES;
    for document in &mut documents {
        document.sector = end;
        end += document.text.len().div_ceil(SECTOR);
    }
    let end = end.max(SMALLEST);
    let mut volume = vec![0; end * SECTOR];
    for joliet in [false, true] {
        let kind = usize::from(joliet);
        put(&mut volume, SYSTEM + kind, &descriptor(joliet, end));
        put(&mut volume, TABLES[kind], &path_table(ROOTS[kind], false));
        put(&mut volume, TABLES[kind] + 1, &path_table(ROOTS[kind], true));
        put(&mut volume, ROOTS[kind], &directory(&documents, joliet));
    }
    put(&mut volume, SYSTEM + 2, b"\xffCD001\x01");
    for document in &documents {
        put(&mut volume, document.sector, document.text.as_bytes());
    }
    volume
}

fn put(volume: &mut [u8], sector: usize, bytes: &[u8]) {
    let at = sector * SECTOR;
    if let Some(place) = volume.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Primary volume descriptor, or Joliet's supplementary one (ECMA-119, 8.4 and 8.5).
fn descriptor(joliet: bool, sectors: usize) -> Vec<u8> {
    let kind = usize::from(joliet);
    let mut d = vec![0; SECTOR];
    let mut set = |at: usize, bytes: &[u8]| d[at..at + bytes.len()].copy_from_slice(bytes);
    let pad = |text: &str, length: usize| {
        let mut bytes = if joliet { ucs2(text) } else { text.as_bytes().to_vec() };
        while bytes.len() < length {
            bytes.extend_from_slice(if joliet { b"\0 " } else { b" " });
        }
        bytes.truncate(length);
        bytes
    };
    set(0, &[if joliet { 2 } else { 1 }]);
    set(1, b"CD001\x01");
    set(8, &pad("", 32));
    set(40, &pad("cidata", 32));
    set(80, &both32(sectors));
    if joliet {
        // UCS-2, level 3.
        set(88, b"%/E");
    }
    set(120, &both16(1));
    set(124, &both16(1));
    set(128, &both16(SECTOR));
    set(132, &both32(path_table(0, false).len()));
    set(140, &low32(TABLES[kind]));
    set(148, &high32(TABLES[kind] + 1));
    set(156, &entry(&[0], ROOTS[kind], SECTOR, true));
    set(190, &pad("", 128));
    set(318, &pad("", 128));
    set(446, &pad("", 128));
    set(574, &pad("", 128));
    for at in [702, 739, 776] {
        set(at, &pad("", 37));
    }
    for at in [813, 830, 847, 864] {
        // No date: sixteen digits and the zone.
        set(at, b"0000000000000000\0");
    }
    set(881, &[1]);
    d
}

/// The path table of a volume with one directory (9.4).
fn path_table(root: usize, high: bool) -> Vec<u8> {
    let mut table = vec![1, 0];
    table.extend(if high { high32(root) } else { low32(root) });
    table.extend(if high { [0, 1] } else { [1, 0] });
    table.extend([0, 0]);
    table
}

/// The root directory, of one sector.
fn directory(documents: &[Document], joliet: bool) -> Vec<u8> {
    let root = ROOTS[usize::from(joliet)];
    let mut bytes = entry(&[0], root, SECTOR, true);
    bytes.extend(entry(&[1], root, SECTOR, true));
    for file in documents {
        let name = if joliet {
            ucs2(&format!("{};1", file.name))
        } else {
            format!("{}.;1", file.name.to_ascii_uppercase()).into_bytes()
        };
        bytes.extend(entry(&name, file.sector, file.text.len(), false));
    }
    bytes
}

/// A directory record (9.1): even, with the length in front. Dates are 1970's first day.
fn entry(name: &[u8], sector: usize, length: usize, directory: bool) -> Vec<u8> {
    let size = (33 + name.len()).next_multiple_of(2);
    let mut bytes = vec![size as u8, 0];
    bytes.extend(both32(sector));
    bytes.extend(both32(length));
    bytes.extend([70, 1, 1, 0, 0, 0, 0]);
    bytes.extend([if directory { 2 } else { 0 }, 0, 0]);
    bytes.extend(both16(1));
    bytes.push(name.len() as u8);
    bytes.extend_from_slice(name);
    bytes.resize(size, 0);
    bytes
}

fn ucs2(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// Volumes are small: every number fits.
fn low32(n: usize) -> [u8; 4] {
    (n as u32).to_le_bytes()
}

fn high32(n: usize) -> [u8; 4] {
    (n as u32).to_be_bytes()
}

fn both32(n: usize) -> Vec<u8> {
    [low32(n), high32(n)].concat()
}

fn both16(n: usize) -> Vec<u8> {
    [(n as u16).to_le_bytes(), (n as u16).to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use types::SeedText;

    use super::*;

    fn seed() -> CloudInit {
        let text = |t: &str| Some(SeedText::Text(t.to_owned()));
        CloudInit {
            user_data: text("#cloud-config\n"),
            meta_data: None,
            network_config: text(&"x".repeat(5000)),
        }
    }

    /// Reads a file as a system does: the descriptor, its root, the entry of that name.
    fn read(volume: &[u8], joliet: bool, name: &[u8]) -> Option<Vec<u8>> {
        let number = |at: usize| {
            let bytes = |at: usize| <[u8; 4]>::try_from(&volume[at..at + 4]).unwrap();
            let (low, high) = (u32::from_le_bytes(bytes(at)), u32::from_be_bytes(bytes(at + 4)));
            assert_eq!(low, high);
            low as usize
        };
        let descriptor = (SYSTEM + usize::from(joliet)) * SECTOR;
        assert_eq!(volume[descriptor + 1..descriptor + 6], *b"CD001");
        let mut at = number(descriptor + 156 + 2) * SECTOR;
        while volume[at] != 0 {
            let length = usize::from(volume[at + 32]);
            if &volume[at + 33..at + 33 + length] == name {
                let from = number(at + 2) * SECTOR;
                return Some(volume[from..from + number(at + 10)].to_vec());
            }
            at += usize::from(volume[at]);
        }
        None
    }

    #[test]
    fn documents_are_found_under_both_kinds_of_names() {
        let vm = VmId(uuid::Uuid::from_u128(7));
        let made = volume(&seed(), vm, "web01");
        assert_eq!(made, volume(&seed(), vm, "web01"));
        assert_eq!(made.len(), SMALLEST * SECTOR);
        let user = read(&made, true, &ucs2("user-data;1")).unwrap();
        assert_eq!(user, b"#cloud-config\n");
        assert_eq!(read(&made, false, b"USER-DATA.;1").unwrap(), user);
        assert_eq!(read(&made, true, &ucs2("network-config;1")).unwrap().len(), 5000);
        let meta = read(&made, true, &ucs2("meta-data;1")).unwrap();
        let meta = String::from_utf8(meta).unwrap();
        assert_eq!(meta, format!("instance-id: {vm}\nlocal-hostname: web01\n"));
        assert!(read(&made, true, &ucs2("vendor-data;1")).is_none());
    }

    #[test]
    fn an_empty_seed_still_says_who_the_vm_is() {
        let made = volume(&CloudInit::default(), VmId(uuid::Uuid::nil()), "a");
        assert!(read(&made, true, &ucs2("user-data;1")).unwrap().is_empty());
        assert!(read(&made, true, &ucs2("meta-data;1")).is_some());
        assert!(read(&made, true, &ucs2("network-config;1")).is_none());
    }
}
