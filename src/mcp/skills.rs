//! Procedures as skills: `skill://<name>/SKILL.md`, and its code below `scripts/` (SEP-2640).

use super::tools::Ask;
use athena_schemas::refusal::Refusal;
use rmcp::model::{DIRECTORY_MIME_TYPE, Resource, Skill, SkillFrontmatter, SkillResource, SkillResources};
use serde_json::{Value, json};

/// How a skill's files are named.
pub(super) const SCHEME: &str = "skill://";
/// The file that every skill has, and the folder of its code.
const MANUAL: &str = "SKILL.md";
const SCRIPTS: &str = "scripts";
const MARKDOWN: &str = "text/markdown";
/// Skills in a list.
const LIST_MAX: u64 = 1_000;
/// A description in a manifest, bytes; the specification allows 1,024 characters.
const DESCRIPTION_MAX: usize = 1_000;

/// A procedure with the texts of its two files.
struct Files {
    name: String,
    description: String,
    version: u64,
    manual: String,
    code: String,
    ending: String,
}

impl Files {
    /// The files of an answer of `procedural/get`.
    fn of(procedure: &Value) -> Option<Self> {
        let text = |path: &str| procedure.pointer(path).and_then(Value::as_str);
        let original = text("/name")?;
        let description = text("/description").unwrap_or_default();
        let description = if description.is_empty() { original } else { description };
        let description = athena_actors::upstream::answer::cut(description, DESCRIPTION_MAX);
        let (name, code) = (safe(original), text("/code")?.to_owned());
        let ending = text("/language").unwrap_or("ts").to_owned();
        let version = procedure.pointer("/version").and_then(Value::as_u64).unwrap_or(1);
        let params = procedure.pointer("/params").filter(|params| !params.is_null());
        let params =
            params.map_or_else(String::new, |params| format!("\n## Arguments\n\n```json\n{params:#}\n```\n"));
        let manual = format!(
            "---\nname: {name}\ndescription: {}\nmetadata:\n  version: \"{version}\"\n---\n\n{description}\n{params}\n## Use\n\n\
             It is code that runs in Athena's sandbox, in `execute`:\n\n```ts\nreturn await athena.procedural.execute({{name: {}, args: {{}}}});\n```\n\n\
             Its source is `{SCRIPTS}/{name}.{ending}`.\n",
            Value::from(description),
            Value::from(original),
        );
        Some(Self { name, description: description.to_owned(), version, manual, code, ending })
    }

    fn uri(&self, file: &str) -> String {
        format!("{SCHEME}{}/{file}", self.name)
    }

    fn code_file(&self) -> String {
        format!("{SCRIPTS}/{}.{}", self.name, self.ending)
    }

    fn manual_resource(&self) -> Resource {
        Resource::new(self.uri(MANUAL), self.name.clone())
            .with_description(self.description.clone())
            .with_mime_type(MARKDOWN)
    }

    fn skill(&self) -> Skill {
        let manual = self.uri(MANUAL);
        let files = vec![
            SkillResource::from_bytes(manual.clone(), self.manual.as_bytes()),
            SkillResource::from_bytes(self.uri(&self.code_file()), self.code.as_bytes()),
        ];
        let front = SkillFrontmatter::new(self.name.clone(), self.description.clone())
            .with_field("metadata", json!({ "version": self.version.to_string() }));
        Skill::new(manual, front, SkillResources::Files(files))
    }
}

/// A name as skills are named: lower case letters, digits and single hyphens.
fn safe(name: &str) -> String {
    let lower = name.to_lowercase();
    let words = lower.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()));
    let joined = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    let cut = joined.get(..64).unwrap_or(&joined).trim_end_matches('-');
    if cut.is_empty() { "skill".into() } else { cut.to_owned() }
}

async fn all(asked: &impl Ask) -> Result<Vec<Files>, Refusal> {
    let page = asked.ask("procedural/list", json!({ "limit": LIST_MAX })).await?;
    let mut found = Vec::new();
    for info in page.pointer("/items").and_then(Value::as_array).into_iter().flatten() {
        let Some(name) = info.get("name") else { continue };
        let procedure = asked.ask("procedural/get", json!({ "name": name })).await?;
        // Two names that become the same: the first has it.
        let files = Files::of(&procedure);
        found.extend(files.filter(|files| found.iter().all(|other: &Files| other.name != files.name)));
    }
    Ok(found)
}

/// Every procedure as a skill.
///
/// # Errors
/// When the store cannot be asked.
pub(super) async fn list(asked: &impl Ask) -> Result<Vec<Skill>, Refusal> {
    Ok(all(asked).await?.iter().map(Files::skill).collect())
}

/// One skill by the address of its `SKILL.md`.
///
/// # Errors
/// When the store cannot be asked.
pub(super) async fn get(asked: &impl Ask, uri: &str) -> Result<Option<Skill>, Refusal> {
    Ok(all(asked).await?.iter().find(|files| files.uri(MANUAL) == uri).map(Files::skill))
}

/// One file of a skill, and what kind it is.
///
/// # Errors
/// When the store cannot be asked.
pub(super) async fn read(asked: &impl Ask, uri: &str) -> Result<Option<(String, &'static str)>, Refusal> {
    Ok(all(asked).await?.into_iter().find_map(|files| {
        if uri == files.uri(MANUAL) {
            return Some((files.manual, MARKDOWN));
        }
        (uri == files.uri(&files.code_file())).then_some((files.code, "text/plain"))
    }))
}

/// The manuals of all skills, as a list of resources shows them.
///
/// # Errors
/// When the store cannot be asked.
pub(super) async fn manuals(asked: &impl Ask) -> Result<Vec<Resource>, Refusal> {
    Ok(all(asked).await?.iter().map(Files::manual_resource).collect())
}

/// What lies directly in a directory of a skill; nothing where the address is no directory.
///
/// # Errors
/// When the store cannot be asked.
pub(super) async fn directory(asked: &impl Ask, uri: &str) -> Result<Option<Vec<Resource>>, Refusal> {
    let Some(path) = uri.strip_prefix(SCHEME).map(|path| path.strip_suffix('/').unwrap_or(path)) else {
        return Ok(None);
    };
    let (name, below) = path.split_once('/').map_or((path, None), |(name, below)| (name, Some(below)));
    let Some(files) = all(asked).await?.into_iter().find(|files| files.name == name) else { return Ok(None) };
    Ok(match below {
        None => {
            let scripts = Resource::new(files.uri(SCRIPTS), SCRIPTS).with_mime_type(DIRECTORY_MIME_TYPE);
            Some(vec![files.manual_resource(), scripts])
        }
        Some(SCRIPTS) => {
            let (uri, name) = (files.uri(&files.code_file()), format!("{}.{}", files.name, files.ending));
            Some(vec![Resource::new(uri, name).with_mime_type("text/plain")])
        }
        Some(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One;

    impl Ask for One {
        async fn ask(&self, op: &str, _: Value) -> Result<Value, Refusal> {
            Ok(match op {
                "procedural/list" => json!({ "items": [{ "name": "boil_water" }] }),
                _ => {
                    json!({ "name": "boil_water", "description": "Boils: \"water\"", "language": "ts", "version": 3,
                    "code": "return 100", "params": { "type": "object" } })
                }
            })
        }
    }

    #[tokio::test]
    async fn a_procedure_is_a_skill_whose_files_are_what_its_manifest_promises() {
        let skills = list(&One).await.unwrap();
        let [skill] = skills.as_slice() else { panic!("{skills:?}") };
        assert_eq!(skill.uri, "skill://boil-water/SKILL.md");
        let SkillResources::Files(files) = &skill.resources else { panic!() };
        assert_eq!(files.len(), 2);
        for file in files {
            let (text, _) = read(&One, &file.uri).await.unwrap().unwrap();
            file.verify(text.as_bytes()).unwrap();
        }
        let (manual, kind) = read(&One, &skill.uri).await.unwrap().unwrap();
        assert!(
            manual.starts_with("---\nname: boil-water\ndescription: \"Boils: \\\"water\\\"\"\n"),
            "{manual}"
        );
        assert_eq!(kind, "text/markdown");
        assert_eq!(get(&One, "skill://boil-water/SKILL.md").await.unwrap().as_ref(), Some(skill));
        assert!(read(&One, "skill://boil-water/../x").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_skill_is_a_directory_whose_files_are_those_of_its_manifest() {
        let uris = async |uri: &str| -> Option<Vec<(String, Option<String>)>> {
            let found = directory(&One, uri).await.unwrap()?;
            Some(found.into_iter().map(|file| (file.uri, file.mime_type)).collect())
        };
        let kinds = [("SKILL.md", MARKDOWN), ("scripts", DIRECTORY_MIME_TYPE)];
        let expected =
            kinds.map(|(name, kind)| (format!("skill://boil-water/{name}"), Some(kind.to_owned())));
        assert_eq!(uris("skill://boil-water").await.unwrap(), expected);
        assert_eq!(uris("skill://boil-water/").await.unwrap(), expected);
        let scripts = uris("skill://boil-water/scripts").await.unwrap();
        assert_eq!(scripts[0].0, "skill://boil-water/scripts/boil-water.ts");
        for file in
            ["skill://boil-water/SKILL.md", "skill://other", "skill://", "skill://boil-water/scripts/x"]
        {
            assert_eq!(uris(file).await, None, "{file}");
        }
    }

    #[test]
    fn names_are_made_safe() {
        for (name, expected) in [("boil_water", "boil-water"), ("A  b!", "a-b"), ("__", "skill")] {
            assert_eq!(safe(name), expected);
        }
        assert!(safe(&"x_".repeat(60)).len() <= 64);
    }
}
