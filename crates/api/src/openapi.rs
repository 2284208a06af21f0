//! The OpenAPI 3.1 document, made of the operations that a router serves.

use std::any::TypeId;
use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::body::{Nothing, ProblemDetails};
use crate::operation::{Kind, Operation, Parameter, Who};

/// Where schemas of what is read stand until the document is finished.
const READ: &str = "#/components/read/";
/// Where schemas stand.
const SCHEMAS: &str = "#/components/schemas/";

/// A document that grows with every operation.
#[derive(Debug)]
pub struct Document {
    /// Schemas of what the controller reads: fields with defaults may be left out.
    read: SchemaGenerator,
    /// Schemas of what the controller tells.
    told: SchemaGenerator,
    paths: Map<String, Value>,
}

impl Default for Document {
    fn default() -> Self {
        let at = |path: &str| {
            let path = path.trim_start_matches('#').trim_end_matches('/').to_owned();
            SchemaSettings::draft2020_12().with(|s| {
                s.definitions_path = path.into();
                s.meta_schema = None;
            })
        };
        Self {
            read: at(READ).for_deserialize().into_generator(),
            told: at(SCHEMAS).for_serialize().into_generator(),
            paths: Map::new(),
        }
    }
}

impl Document {
    /// Adds an operation.
    pub fn add<P, B, A, Q>(&mut self, operation: &Operation<P, B, A, Q>)
    where
        P: Parameter,
        B: JsonSchema + 'static,
        A: JsonSchema,
        Q: JsonSchema,
    {
        let mut entry = json!({
            "operationId": operation.id,
            "summary": operation.summary,
            "tags": [match operation.who { Who::Host => "agents", _ => "users" }],
            "parameters": self.parameters(operation),
            "responses": self.responses(operation),
        });
        if operation.verb.has_body() && TypeId::of::<B>() != TypeId::of::<Nothing>() {
            let schema = self.read.subschema_for::<B>();
            entry["requestBody"] = json!({
                "required": true,
                "content": { "application/json": { "schema": schema } },
            });
        }
        let path = self.paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.verb.lower()] = entry;
    }

    fn parameters<P, B, A, Q>(&mut self, operation: &Operation<P, B, A, Q>) -> Vec<Value>
    where
        P: Parameter,
        Q: JsonSchema,
    {
        let mut all = Vec::new();
        if let (Some(name), Some(schema)) = (operation.parameter(), P::schema(&mut self.read)) {
            all.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
        }
        let query = Q::json_schema(&mut self.read).to_value();
        let required = query["required"].as_array().cloned().unwrap_or_default();
        for (name, schema) in query["properties"].as_object().into_iter().flatten() {
            let required = required.iter().any(|r| r == name);
            all.push(json!({
                "name": name, "in": "query", "required": required, "schema": optional(schema),
            }));
        }
        match operation.kind {
            Kind::Change => all.extend([dry_run(), idempotency_key()]),
            Kind::Stream => all.push(json!({
                "name": "Last-Event-ID", "in": "header", "required": false,
                "description": "As `after`, which it goes before.",
                "schema": { "type": "integer", "minimum": 0 },
            })),
            Kind::Read | Kind::Agent => {}
        }
        all
    }

    fn responses<P, B, A: JsonSchema, Q>(&mut self, operation: &Operation<P, B, A, Q>) -> Value {
        // "Anything" is an object here; generators do not read a bare `true`.
        let schema = match self.told.subschema_for::<A>().to_value() {
            Value::Bool(_) => json!({ "type": "object" }),
            schema => schema,
        };
        let problem = self.told.subschema_for::<ProblemDetails>();
        let content = match operation.kind {
            Kind::Stream => json!({ "text/event-stream": { "schema": { "type": "string" } } }),
            _ => json!({ "application/json": { "schema": schema } }),
        };
        let mut all = json!({
            "default": {
                "description": "A problem; nothing was done.",
                "content": { "application/problem+json": { "schema": problem } },
            },
        });
        all[operation.status.to_string()] = json!({
            "description": operation.summary,
            "content": content,
        });
        all
    }

    /// The whole document.
    pub fn finish(mut self) -> Value {
        let told = self.told.take_definitions(true);
        let read = self.read.take_definitions(true);
        let two = different(&read, &told);
        let name = |name: &str| match two.contains(name) {
            true => format!("{name}Input"),
            false => name.to_owned(),
        };
        let mut schemas = told;
        for (key, schema) in read {
            schemas.insert(name(&key), schema);
        }
        let mut document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Godwit",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "Live migration for QEMU/KVM hosts. Bytes are bytes, seconds are \
                    seconds, times are RFC 3339. Every request needs a client certificate.",
                "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            },
            "servers": [{ "url": "/" }],
            "security": [{ "certificate": [] }],
            "tags": [
                { "name": "users", "description": "What administrators ask." },
                { "name": "agents", "description": "What hosts ask; for Godwit's own agents." },
            ],
            "paths": self.paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": { "certificate": {
                    "type": "mutualTLS",
                    "description": "A client certificate of the fleet's CA.",
                } },
            },
        });
        tidy(&mut document, &name);
        document
    }
}

fn dry_run() -> Value {
    json!({
        "name": "dry_run", "in": "query", "required": false,
        "description": "Answer as if it were done, and do nothing.",
        "schema": { "type": "boolean", "default": false },
    })
}

fn idempotency_key() -> Value {
    json!({
        "name": "Idempotency-Key", "in": "header", "required": false,
        "description": "The same key again gives the same answer and does nothing a second time.",
        "schema": { "type": "string", "minLength": 1, "maxLength": 255 },
    })
}

/// A parameter is there or not; it is never `null`.
fn optional(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(kinds) = schema["type"].as_array_mut() {
        kinds.retain(|kind| kind != "null");
        if let [only] = kinds.as_slice() {
            schema["type"] = only.clone();
        }
    }
    let some = schema["anyOf"].as_array().and_then(|any| {
        any.iter().find(|one| one["type"] != "null").cloned().filter(|_| any.len() == 2)
    });
    if let (Some(some), Some(object)) = (some, schema.as_object_mut()) {
        object.remove("anyOf");
        object.extend(some.as_object().cloned().unwrap_or_default());
    }
    if schema["default"].is_null()
        && let Some(object) = schema.as_object_mut()
    {
        object.remove("default");
    }
    schema
}

/// Names whose schemas differ between what is read and what is told, or that
/// refer to one of these.
fn different(read: &Map<String, Value>, told: &Map<String, Value>) -> BTreeSet<String> {
    let text = |schema: &Value| schema.to_string().replace(READ, SCHEMAS);
    let same =
        |name: &String, schema: &Value| told.get(name).is_none_or(|t| text(t) == text(schema));
    let mut two: BTreeSet<String> =
        read.iter().filter(|(name, schema)| !same(name, schema)).map(|(n, _)| n.clone()).collect();
    loop {
        let refers = |schema: &Value| {
            let text = schema.to_string();
            two.iter().any(|name| text.contains(&format!("\"{READ}{name}\"")))
        };
        let more: Vec<String> = read
            .iter()
            .filter(|(name, schema)| {
                !two.contains(*name) && told.contains_key(*name) && refers(schema)
            })
            .map(|(name, _)| name.clone())
            .collect();
        if more.is_empty() {
            return two;
        }
        two.extend(more);
    }
}

/// Gives references their last form, and writes a choice of constants as `enum`,
/// which generators of clients understand better.
fn tidy(value: &mut Value, name: &impl Fn(&str) -> String) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| tidy(item, name)),
        Value::Object(object) => {
            let read =
                object.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(READ));
            if let Some(read) = read.map(name) {
                object.insert("$ref".to_owned(), json!(format!("{SCHEMAS}{read}")));
            }
            if let Some((constants, words)) = constants(object) {
                object.remove("oneOf");
                object.insert("type".to_owned(), json!("string"));
                object.insert("enum".to_owned(), json!(constants));
                let text = object.get("description").and_then(Value::as_str).unwrap_or_default();
                object.insert("description".to_owned(), json!(format!("{text}\n\n{words}")));
            }
            object.values_mut().for_each(|item| tidy(item, name));
        }
        _ => {}
    }
}

/// The constants of a `oneOf`, if it has nothing else, and what they mean.
fn constants(object: &Map<String, Value>) -> Option<(Vec<String>, String)> {
    let mut constants = Vec::new();
    let mut words = Vec::new();
    for one in object.get("oneOf")?.as_array()? {
        let constant = one.get("const")?.as_str()?.to_owned();
        if let Some(text) = one.get("description").and_then(Value::as_str) {
            words.push(format!("- `{constant}`: {text}"));
        }
        constants.push(constant);
    }
    Some((constants, words.join("\n")))
}
