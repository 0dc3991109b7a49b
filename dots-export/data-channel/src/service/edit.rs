//! Edits of a section as a tree of JSON.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use weir_dots_proto::Cuid;

use super::error::{Refusal, Tag};
use super::message::Method;
use super::path::{Resource, Step};
use super::query::{Insert, Query};
use super::tree::{find, find_mut, is_ordered, key_of, key_text, merge, position, positions};
use super::write::{only_member, unknown};
use crate::model::BodyFault;
use crate::store::Refresh;

/// What an edit has done.
#[derive(Debug)]
pub(super) struct Edited {
    /// The steps below the client of what was created; none where something was changed or removed.
    pub(super) created: Option<Vec<Step>>,
    /// Entries whose lifetime begins anew.
    pub(super) refresh: Refresh,
}

/// Where an entry goes in a list that the user orders (RFC 8040 §4.8.5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    insert: Option<Insert>,
    /// Steps below the client of the entry before or after which it goes.
    point: Vec<Step>,
}

impl Place {
    pub(super) fn of(query: &Query, root: &str, cuid: &Cuid) -> Result<Self, Refusal> {
        let mut point = Vec::new();
        if let Some(path) = &query.point {
            match Resource::parse_point(path, root) {
                Ok(Resource::Client { cuid: of, steps }) if of == *cuid => point = steps,
                _ => return Err(bad("point is no entry of the same list")),
            }
        }
        let insert = query.insert;
        Ok(Self { insert, point })
    }

    /// The index for a new entry of a list, whose parent is at the end of `parent`.
    fn index(&self, parent: &[Step], list: &str, entries: &[Value]) -> Result<usize, Refusal> {
        let Some(insert) = self.insert else {
            return Ok(entries.len());
        };
        if !is_ordered(list) {
            return Err(bad("insert is for acl and ace"));
        }
        let anchor = || {
            let (last, before) = self.point.split_last()?;
            let key = last
                .key
                .as_ref()
                .filter(|_| before == parent && last.name == list)?;
            position(list, entries, key)
        };
        let anchored = || anchor().ok_or_else(|| bad("point is no entry of the same list"));
        match insert {
            Insert::First => Ok(0),
            Insert::Last => Ok(entries.len()),
            Insert::Before => anchored(),
            Insert::After => anchored().map(|index| index + 1),
        }
    }
}

/// Edits a section. `steps` are those below the client: none for a POST to the client, else the section's first.
pub(super) fn apply(
    method: Method,
    tree: &mut Value,
    section: &str,
    steps: &[Step],
    body: &Value,
    place: &Place,
) -> Result<Edited, Refusal> {
    if place.insert.is_some() && !matches!(method, Method::Post | Method::Put) {
        return Err(bad("insert is for POST and PUT"));
    }
    match method {
        Method::Post if steps.is_empty() => post_section(tree, section, body, place),
        Method::Post => post(tree, steps, body, place),
        Method::Put => put(tree, section, steps, body, place),
        Method::Patch => patch(tree, section, steps, body),
        _ => delete(tree, steps),
    }
}

/// The list of a section.
fn list_of(section: &str) -> &'static str {
    match section {
        "aliases" => "alias",
        "acls" => "acl",
        _ => "vendor",
    }
}

/// A POST to the client: all entries in the body's section are new (RFC 8783 Figures 17 and 24, RFC 9244 Figure 30).
fn post_section(
    tree: &mut Value,
    section: &str,
    body: &Value,
    place: &Place,
) -> Result<Edited, Refusal> {
    let list = list_of(section);
    let (_, value) = only_member(body)?;
    let members = value
        .as_object()
        .ok_or_else(|| bad("a section is an object"))?;
    if let Some(other) = members.keys().find(|name| *name != list) {
        return Err(unknown(other));
    }
    let new = members
        .get(list)
        .and_then(Value::as_array)
        .filter(|new| !new.is_empty());
    let new = new.ok_or_else(|| missing(list))?;
    let parent = [step(section, None)];
    create(tree, &parent, list, new, place)?;
    let mut below = parent.to_vec();
    // The Location of several is their section.
    if let [entry] = new.as_slice() {
        below.push(step(list, key_text(list, entry)));
    }
    Ok(edited(Some(below), []))
}

/// A POST to a node: its body is a child that is not there yet (RFC 8040 §4.4.1).
fn post(tree: &mut Value, steps: &[Step], body: &Value, place: &Place) -> Result<Edited, Refusal> {
    let (name, value) = only_member(body)?;
    let inner = steps.get(1..).unwrap_or_default();
    let mut below = steps.to_vec();
    if key_of(name).is_some() {
        let Some([entry]) = value.as_array().map(Vec::as_slice) else {
            return Err(bad("a list in the body has one entry"));
        };
        find(tree, inner).ok_or_else(Refusal::not_found)?;
        let key = key_text(name, entry);
        create(tree, steps, name, std::slice::from_ref(entry), place)?;
        below.push(step(name, key));
        return Ok(edited(Some(below), entry_name(steps)));
    }
    let parent = find_mut(tree, inner).and_then(Value::as_object_mut);
    let parent = parent.ok_or_else(Refusal::not_found)?;
    if parent.contains_key(name) {
        return Err(Refusal::exists(&format!("{name} exists")));
    }
    parent.insert(name.to_owned(), value.clone());
    below.push(step(name, None));
    Ok(edited(Some(below), entry_name(steps)))
}

/// Puts new entries into a list of the node at the end of `parent`.
fn create(
    tree: &mut Value,
    parent: &[Step],
    list: &str,
    new: &[Value],
    place: &Place,
) -> Result<(), Refusal> {
    let entries = entries_mut(tree, parent, list)?;
    let index = place.index(parent, list, entries)?;
    let mut known = positions(list, entries);
    for entry in new {
        let key = key_text(list, entry).ok_or_else(|| missing(key_of(list).unwrap_or(list)))?;
        if known.contains_key(&key) {
            return Err(Refusal::exists(&format!("{list} {key} exists")));
        }
        known.insert(key, index);
    }
    entries.splice(index..index, new.iter().cloned());
    Ok(())
}

/// A PUT: the node is as the body says, whether it was there or not (RFC 8040 §4.5).
fn put(
    tree: &mut Value,
    section: &str,
    steps: &[Step],
    body: &Value,
    place: &Place,
) -> Result<Edited, Refusal> {
    let Some((last, parent)) = steps.split_last() else {
        return Err(Refusal::not_supported());
    };
    let value = body_of(section, steps, body)?;
    if parent.is_empty() {
        if place.insert.is_some() {
            return Err(bad("insert is for acl and ace"));
        }
        let was_empty = tree.as_object().is_none_or(Map::is_empty);
        *tree = value.clone();
        return Ok(Edited {
            created: was_empty.then(|| steps.to_vec()),
            refresh: Refresh::All,
        });
    }
    let created = match &last.key {
        Some(key) => {
            let entries = entries_mut(tree, parent, &last.name)?;
            put_entry(entries, parent, last, key, value, place)?
        }
        None if place.insert.is_some() => return Err(bad("insert is for acl and ace")),
        None => {
            refuse_other_key(steps, value)?;
            let inner = parent.get(1..).unwrap_or_default();
            let node = find_mut(tree, inner).and_then(Value::as_object_mut);
            let node = node.ok_or_else(Refusal::not_found)?;
            node.insert(last.name.clone(), value.clone()).is_none()
        }
    };
    Ok(edited(created.then(|| steps.to_vec()), entry_name(steps)))
}

/// Puts an entry under its key; whether it is new. One that is there keeps its place unless another is asked for.
fn put_entry(
    entries: &mut Vec<Value>,
    parent: &[Step],
    last: &Step,
    key: &str,
    value: &Value,
    place: &Place,
) -> Result<bool, Refusal> {
    let known = position(&last.name, entries, key);
    if let (Some(index), None) = (known, place.insert)
        && let Some(entry) = entries.get_mut(index)
    {
        *entry = value.clone();
        return Ok(false);
    }
    if let Some(index) = known {
        entries.remove(index);
    }
    let index = place.index(parent, &last.name, entries)?;
    entries.insert(index, value.clone());
    Ok(known.is_none())
}

/// A plain PATCH: the body is merged into the node (RFC 8040 §4.6.1).
fn patch(tree: &mut Value, section: &str, steps: &[Step], body: &Value) -> Result<Edited, Refusal> {
    let Some(last) = steps.last() else {
        return Err(Refusal::not_supported());
    };
    let value = body_of(section, steps, body)?;
    refuse_other_key(steps, value)?;
    let inner = steps.get(1..).unwrap_or_default();
    if find(tree, inner).is_none() {
        return Err(Refusal::not_found());
    }
    let node = find_mut(tree, inner).ok_or_else(Refusal::not_found)?;
    merge(&last.name, node, value);
    let names = match steps {
        [_] => {
            let list = list_of(section);
            let told = value
                .get(list)
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            told.filter_map(|entry| key_text(list, entry)).collect()
        }
        _ => entry_name(steps),
    };
    Ok(edited(None, names))
}

/// A DELETE (RFC 8040 §4.7).
fn delete(tree: &mut Value, steps: &[Step]) -> Result<Edited, Refusal> {
    let Some((last, parent)) = steps.split_last() else {
        return Err(Refusal::not_supported());
    };
    if parent.is_empty() {
        *tree = Value::Object(Map::new());
        return Ok(edited(None, []));
    }
    let inner = steps.get(1..).unwrap_or_default();
    find(tree, inner).ok_or_else(Refusal::not_found)?;
    match &last.key {
        Some(key) => {
            let entries = entries_mut(tree, parent, &last.name)?;
            entries.retain(|entry| key_text(&last.name, entry).as_ref() != Some(key));
        }
        None => {
            let inner = parent.get(1..).unwrap_or_default();
            let node = find_mut(tree, inner).and_then(Value::as_object_mut);
            node.ok_or_else(Refusal::not_found)?.remove(&last.name);
        }
    }
    Ok(edited(None, []))
}

/// The list of this name in the node at the end of `parent`, which begins with the section.
fn entries_mut<'a>(
    tree: &'a mut Value,
    parent: &[Step],
    list: &str,
) -> Result<&'a mut Vec<Value>, Refusal> {
    let inner = parent.get(1..).unwrap_or_default();
    let node = find_mut(tree, inner).and_then(Value::as_object_mut);
    let node = node.ok_or_else(Refusal::not_found)?;
    let entries = node
        .entry(list.to_owned())
        .or_insert_with(|| Value::Array(Vec::new()));
    entries.as_array_mut().ok_or_else(Refusal::not_found)
}

/// The node that a body has for the last step: a single entry where that has a key. An entry of a section may stand in
/// its list alone (RFC 8040 §4.5) or also in the section (RFC 8783 Figure 25).
fn body_of<'a>(section: &str, steps: &[Step], body: &'a Value) -> Result<&'a Value, Refusal> {
    let Some(last) = steps.last() else {
        return Err(Refusal::not_supported());
    };
    let (name, mut value) = only_member(body)?;
    if name != last.name {
        if name != section || steps.len() != 2 {
            return Err(unknown(name));
        }
        let members = value
            .as_object()
            .ok_or_else(|| bad("a section is an object"))?;
        if let Some(other) = members.keys().find(|name| **name != last.name) {
            return Err(unknown(other));
        }
        value = members.get(&last.name).ok_or_else(|| missing(&last.name))?;
    }
    let Some(key) = &last.key else {
        return Ok(value);
    };
    let Some([entry]) = value.as_array().map(Vec::as_slice) else {
        return Err(bad("the body has not one entry of the list"));
    };
    match key_text(&last.name, entry) {
        None => Err(missing(key_of(&last.name).unwrap_or(&last.name))),
        Some(told) if told != *key => Err(bad("the key in the body is not that of the path")),
        Some(_) => Ok(entry),
    }
}

/// A leaf that is its list's key cannot change (RFC 8040 §4.5).
fn refuse_other_key(steps: &[Step], value: &Value) -> Result<(), Refusal> {
    let [.., entry, leaf] = steps else {
        return Ok(());
    };
    let is_key = key_of(&entry.name) == Some(leaf.name.as_str());
    if is_key && key_text("", value) != entry.key {
        return Err(bad("a key cannot change"));
    }
    Ok(())
}

/// The name of the section's entry that the steps lead into.
fn entry_name(steps: &[Step]) -> Vec<String> {
    steps
        .get(1)
        .and_then(|step| step.key.clone())
        .into_iter()
        .collect()
}

fn edited(created: Option<Vec<Step>>, names: impl IntoIterator<Item = String>) -> Edited {
    let names: BTreeSet<String> = names.into_iter().collect();
    Edited {
        created,
        refresh: Refresh::Named(names),
    }
}

fn step(name: &str, key: Option<String>) -> Step {
    Step {
        name: name.to_owned(),
        key,
    }
}

fn missing(name: &str) -> Refusal {
    BodyFault::missing(name, "is missing").into()
}

fn bad(message: &str) -> Refusal {
    Refusal::bad(Tag::InvalidValue, message)
}
