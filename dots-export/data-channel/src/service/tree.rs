//! Data as a tree of JSON: finding, cutting and merging nodes.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::path::Step;

/// The key of a list (RFC 8783 §4.3, RFC 9244 §11.2); none for what is no list of objects.
pub(super) fn key_of(list: &str) -> Option<&'static str> {
    match list {
        "dots-client" => Some("cuid"),
        "alias" | "acl" | "ace" => Some("name"),
        "target-port-range" => Some("lower-port"),
        "vendor" => Some("vendor-id"),
        "attack-mapping" => Some("attack-id"),
        _ => None,
    }
}

/// Whether the user orders the entries of a list (`ordered-by user`).
pub(super) fn is_ordered(list: &str) -> bool {
    matches!(list, "acl" | "ace")
}

/// The key of an entry, or a value of a leaf-list, as a path has it.
pub(super) fn key_text(list: &str, entry: &Value) -> Option<String> {
    let key = match key_of(list) {
        Some(key) => entry.get(key)?,
        None => entry,
    };
    match key {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The place of an entry in a list.
pub(super) fn position(list: &str, entries: &[Value], key: &str) -> Option<usize> {
    entries
        .iter()
        .position(|entry| key_text(list, entry).as_deref() == Some(key))
}

/// The places of all entries that have a key.
pub(super) fn positions(list: &str, entries: &[Value]) -> HashMap<String, usize> {
    let keys = entries.iter().enumerate();
    keys.filter_map(|(index, entry)| Some((key_text(list, entry)?, index)))
        .collect()
}

/// The node at the end of the steps.
pub(super) fn find<'a>(node: &'a Value, steps: &[Step]) -> Option<&'a Value> {
    let Some((step, rest)) = steps.split_first() else {
        return Some(node);
    };
    let child = node.get(&step.name)?;
    let child = match &step.key {
        None => child,
        Some(key) => {
            let entries = child.as_array()?;
            entries.get(position(&step.name, entries, key)?)?
        }
    };
    find(child, rest)
}

/// The node at the end of the steps, to be changed. A container that is not there is made: one without presence always
/// exists (RFC 7950 §7.5.1).
pub(super) fn find_mut<'a>(node: &'a mut Value, steps: &[Step]) -> Option<&'a mut Value> {
    let Some((step, rest)) = steps.split_first() else {
        return Some(node);
    };
    let members = node.as_object_mut()?;
    let child = match &step.key {
        None if key_of(&step.name).is_some() => return None,
        None => members
            .entry(step.name.clone())
            .or_insert_with(|| Value::Object(Map::new())),
        Some(key) => {
            let entries = members.get_mut(&step.name)?.as_array_mut()?;
            let place = position(&step.name, entries, key)?;
            entries.get_mut(place)?
        }
    };
    find_mut(child, rest)
}

/// Cuts what lies deeper than `depth` levels, the node itself being the first (RFC 8040 §4.8.2). A list of which the
/// entries would be empty is empty (RFC 9244 Figure 34).
pub(super) fn limit_depth(node: &mut Value, depth: u16) {
    let Value::Object(members) = node else {
        return;
    };
    if depth <= 1 {
        members.clear();
        return;
    }
    for child in members.values_mut() {
        match child {
            Value::Array(entries) if entries.iter().any(Value::is_object) => {
                if depth == 2 {
                    entries.clear();
                }
                for entry in entries {
                    limit_depth(entry, depth - 1);
                }
            }
            child => limit_depth(child, depth - 1),
        }
    }
}

/// Merges a plain patch into a node of this name (RFC 8040 §4.6.1): containers and lists member by member and entry by
/// entry, leaf-lists by the values that are new, leaves by replacement.
pub(super) fn merge(name: &str, into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(members), Value::Object(patches)) => {
            for (name, patch) in patches {
                match members.get_mut(name) {
                    Some(child) => merge(name, child, patch),
                    None => {
                        members.insert(name.clone(), patch.clone());
                    }
                }
            }
        }
        (Value::Array(entries), Value::Array(patches)) => {
            let mut places = positions(name, entries);
            for patch in patches {
                let key = key_text(name, patch);
                let known = key.as_ref().and_then(|key| places.get(key));
                if let Some(entry) = known.and_then(|place| entries.get_mut(*place)) {
                    merge(name, entry, patch);
                } else {
                    places.extend(key.map(|key| (key, entries.len())));
                    entries.push(patch.clone());
                }
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn depth_three_of_a_mapping_is_its_vendors() {
        let mut mapping = json!({"vendor": [{
            "vendor-id": 32473, "last-updated": "1",
            "attack-mapping": [{"attack-id": 1, "attack-description": "x"}]
        }]});
        limit_depth(&mut mapping, 3);
        let expected = json!({"vendor": [{
            "vendor-id": 32473, "last-updated": "1", "attack-mapping": []
        }]});
        assert_eq!(mapping, expected);
        limit_depth(&mut mapping, 2);
        assert_eq!(mapping, json!({"vendor": []}));
        limit_depth(&mut mapping, 1);
        assert_eq!(mapping, json!({}));
    }

    #[test]
    fn a_patch_is_merged_by_keys() {
        let mut acls = json!({"acl": [{"name": "a", "x": 1}, {"name": "b"}]});
        merge(
            "acls",
            &mut acls,
            &json!({"acl": [{"name": "b", "x": [2]}, {"name": "c"}]}),
        );
        merge(
            "acls",
            &mut acls,
            &json!({"acl": [{"name": "b", "x": [2, 3]}]}),
        );
        let expected =
            json!({"acl": [{"name": "a", "x": 1}, {"name": "b", "x": [2, 3]}, {"name": "c"}]});
        assert_eq!(acls, expected);
    }
}
