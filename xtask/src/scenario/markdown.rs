//! The code blocks of a guide, and where each is typed.

/// A block that is typed on machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// Where the guide says that it is typed.
    pub(super) machines: Vec<String>,
    /// What is typed.
    pub(super) script: String,
    /// Its line in the guide, from 1.
    pub(super) line: usize,
}

/// The blocks that name machines: ```` ```bash alpha beta ````.
pub(super) fn blocks(guide: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = guide.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let mut words = info.split_whitespace();
        let shell = words.next() == Some("bash");
        let machines: Vec<String> = words.map(str::to_owned).collect();
        let mut script = String::new();
        for (_, line) in lines.by_ref().take_while(|(_, line)| !line.starts_with("```")) {
            script.push_str(line);
            script.push('\n');
        }
        if shell && !machines.is_empty() {
            blocks.push(Block { machines, script, line: number + 1 });
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_typed_on_a_machine_is_a_block() {
        let guide =
            "a\n```toml\nx = 1\n```\n```bash alpha beta\none\n\ntwo\n```\n```bash\nno\n```\n";
        assert_eq!(
            blocks(guide),
            [Block {
                machines: vec!["alpha".into(), "beta".into()],
                script: "one\n\ntwo\n".into(),
                line: 5,
            }]
        );
    }
}
