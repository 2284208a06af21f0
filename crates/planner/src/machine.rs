//! Versions of machine types and of QEMU, as far as they are compared.

/// The first `major.minor` in a text: `pc-q35-7.2` and `7.2.22` are both (7, 2).
/// `None` where there is none, as in `q35`.
pub(crate) fn version(text: &str) -> Option<(u32, u32)> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
        let mut numbers = word.split('.');
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        Some((major, minor))
    })
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_found() {
        for (text, expected) in [
            ("pc-q35-7.2", Some((7, 2))),
            ("pc-i440fx-10.0", Some((10, 0))),
            ("7.2.22", Some((7, 2))),
            ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)", Some((10, 0))),
            ("q35", None),
            ("pc", None),
            ("", None),
            ("..", None),
            ("99999999999.1", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }
}
