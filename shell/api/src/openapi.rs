//! The OpenAPI 3.1 document, made from the operations themselves.
//!
//! Paths, operations and schemas come out in the order of their names, so that the document
//! changes only when the API does and can be compared with the one that is checked in.

use std::collections::BTreeMap;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::{ApiError, Method, Operation};

/// What the document needs to know of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    id: &'static str,
    method: Method,
    path: &'static str,
    summary: &'static str,
    streams: bool,
    params: fn(&mut SchemaGenerator) -> Schema,
    body: fn(&mut SchemaGenerator) -> Schema,
    reply: fn(&mut SchemaGenerator) -> Schema,
}

impl Described {
    /// Describes an operation.
    #[must_use]
    pub fn of<O: Operation>() -> Self {
        Self {
            id: O::ID,
            method: O::METHOD,
            path: O::PATH,
            summary: O::SUMMARY,
            streams: O::STREAMS,
            // In place: a parameter is described one by one, not as a struct.
            params: O::Params::json_schema,
            body: SchemaGenerator::subschema_for::<O::Body>,
            reply: SchemaGenerator::subschema_for::<O::Reply>,
        }
    }
}

/// The names of the parameters of an operation.
pub(crate) fn parameter_names<P: JsonSchema>() -> Vec<String> {
    let schema = P::json_schema(&mut generator());
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// The OpenAPI 3.1 document of some operations.
#[must_use]
pub fn document(title: &str, version: &str, operations: &[Described]) -> Value {
    let mut generator = generator();
    let error = generator.subschema_for::<ApiError>();
    let mut paths: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
    for operation in operations {
        let method = operation.method.as_str().to_ascii_lowercase();
        let described = describe(operation, &error, &mut generator);
        paths.entry(operation.path).or_default().insert(method, described);
    }
    let schemas = generator.take_definitions(true);
    sorted(json!({
        "openapi": "3.1.0",
        "info": { "title": title, "version": version },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "mutual_tls": { "type": "mutualTLS" } },
        },
        "security": [{ "mutual_tls": [] }],
    }))
}

fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    settings.into_generator()
}

fn describe(
    operation: &Described,
    error: &Schema,
    generator: &mut SchemaGenerator,
) -> Value {
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "responses": {
            "200": reply(operation, generator),
            "default": {
                "description": "What went wrong and what to do about it.",
                "content": { "application/json": { "schema": error } },
            },
        },
    });
    let parameters = parameters(operation, generator);
    if !parameters.is_empty() {
        described["parameters"] = Value::Array(parameters);
    }
    let body = (operation.body)(generator);
    if !is_nothing(&body) {
        described["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": body } },
        });
    }
    described
}

fn reply(operation: &Described, generator: &mut SchemaGenerator) -> Value {
    let schema = (operation.reply)(generator);
    if is_nothing(&schema) {
        return json!({ "description": "It is done." });
    }
    if operation.streams {
        return json!({
            "description": "Server-sent events; the first carries this.",
            "content": { "text/event-stream": { "schema": schema } },
        });
    }
    json!({
        "description": "The answer.",
        "content": { "application/json": { "schema": schema } },
    })
}

fn is_nothing(schema: &Schema) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

fn parameters(operation: &Described, generator: &mut SchemaGenerator) -> Vec<Value> {
    let schema = (operation.params)(generator);
    let required = schema.get("required").and_then(Value::as_array);
    let properties = schema.get("properties").and_then(Value::as_object);
    let mut all = Vec::new();
    for (name, property) in properties.into_iter().flatten() {
        let in_path = operation.path.contains(&format!("{{{name}}}"));
        let needed = required.is_some_and(|names| names.iter().any(|n| n == name));
        let mut property = property.clone();
        let description = property
            .as_object_mut()
            .and_then(|property| property.remove("description"))
            .unwrap_or_default();
        all.push(json!({
            "name": name,
            "in": if in_path { "path" } else { "query" },
            "required": in_path || needed,
            "description": description.as_str().unwrap_or_default(),
            "schema": property,
        }));
    }
    all
}

/// The same with the keys of every object in order, whatever features of `serde_json` another
/// crate switched on.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let ordered: BTreeMap<String, Value> =
                object.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(ordered.into_iter().collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine;

    fn of_the_engine() -> Value {
        document("engine", "1", &engine::described())
    }

    #[test]
    fn it_is_the_same_every_time() {
        let mut backwards = engine::described();
        backwards.reverse();
        let text = serde_json::to_string_pretty(&of_the_engine()).unwrap();
        let again = document("engine", "1", &backwards);
        assert_eq!(text, serde_json::to_string_pretty(&again).unwrap());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
            match value {
                Value::Object(object) => {
                    found.extend(object.get("$ref").and_then(Value::as_str));
                    object.values().for_each(|value| walk(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| walk(value, found)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let document = of_the_engine();
        let mut references = Vec::new();
        walk(&document, &mut references);
        assert!(!references.is_empty());
        for reference in references {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn parameters_are_named_with_their_place() {
        let document = of_the_engine();
        let range = &document["paths"]["/engine/v1/range"]["get"]["parameters"];
        let names: Vec<_> =
            range.as_array().unwrap().iter().map(|p| (&p["name"], &p["in"])).collect();
        assert!(names.contains(&(&json!("prefix"), &json!("query"))), "{names:?}");
    }
}
