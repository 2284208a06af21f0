//! `godwit vm create`.

use std::path::Path;

use types::VmSpec;

use crate::connect::Connect;
use crate::failure::Failure;
use crate::files;
use crate::output::Output;

pub(crate) async fn run(file: &Path, connect: Connect, output: &Output) -> Result<(), Failure> {
    let spec = read(file)?;
    let view = connect.client()?.create_vm(&spec).await?;
    output.one(&view, &view.spec.name, |view| {
        let name = &view.spec.name;
        format!("{name} is made; `godwit vm start {name}` starts it\n")
    })
}

fn read(file: &Path) -> Result<VmSpec, Failure> {
    let (mut spec, text): (VmSpec, _) = files::toml(file)?;
    let wrong = |field: &str, problem: &str| files::wrong_field(file, &text, field, problem);
    let folder = file.parent().unwrap_or(Path::new("."));
    if let Some(seed) = &mut spec.cloud_init {
        let read = |name: &str| files::text(&folder.join(name));
        seed.resolve(read).map_err(|(field, failure)| wrong(&field, &failure.message))?;
    }
    spec.check().map_err(|error| wrong(&error.field, &error.problem))?;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::USAGE;

    #[test]
    fn what_the_types_cannot_see_is_told_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("vm.toml");
        std::fs::write(&file, "name = \"a\"\nvcpus = 0\nmemory = \"2MiB\"\n").unwrap();
        let failure = read(&file).unwrap_err();
        assert!(failure.message.ends_with("vm.toml: line 2: vcpus: must be 1 to 255"));
        assert_eq!(failure.exit, USAGE);
        std::fs::write(&file, "name = \"a\"\nmemory = \"2MiB\"\n").unwrap();
        assert_eq!(read(&file).unwrap().vcpus, 1);
    }

    #[test]
    fn documents_for_cloud_init_are_read_beside_the_spec() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("vm.toml");
        let text = "name = \"a\"\nmemory = \"2MiB\"\n[cloud_init]\nuser_data = { file = \"u\" }\n";
        std::fs::write(&file, text).unwrap();
        let failure = read(&file).unwrap_err();
        assert!(failure.message.contains("line 4: cloud_init.user_data"), "{}", failure.message);
        std::fs::write(dir.path().join("u"), "#cloud-config").unwrap();
        let seed = read(&file).unwrap().cloud_init.unwrap();
        assert_eq!(seed.user_data.unwrap().text(), "#cloud-config");
    }
}
