//! An object as it was read: also one that has not the shape of its kind, so that it hides no other of its list or watch.
//! Pure; it must not decide what is done about one that cannot be read.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

/// What is known of an object that cannot be read as a `K`.
pub trait Unreadable<K>: Sized {
    /// From the whole object, its metadata, and why it is no `K`.
    ///
    /// # Errors
    /// When nothing can be said of it; then the whole answer it came with is an error.
    fn of(object: Value, metadata: ObjectMeta, error: &str) -> Result<Self, String>;

    /// Its metadata.
    fn meta(&self) -> &ObjectMeta;

    /// The same, to be changed.
    fn meta_mut(&mut self) -> &mut ObjectMeta;
}

/// An object, or what is known of it all the same. Unlike kube's `DeserializeGuard` it can keep more than the metadata.
#[derive(Clone, Debug)]
pub struct Guarded<K, U>(pub Result<K, U>);

impl<'de, K: DeserializeOwned, U: Unreadable<K>> Deserialize<'de> for Guarded<K, U> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let error = match K::deserialize(&value) {
            Ok(object) => return Ok(Self(Ok(object))),
            Err(error) => error.to_string(),
        };
        let metadata = value.get("metadata").unwrap_or(&Value::Null);
        let metadata = ObjectMeta::deserialize(metadata).map_err(serde::de::Error::custom)?;
        let known = U::of(value, metadata, &error).map_err(serde::de::Error::custom)?;
        Ok(Self(Err(known)))
    }
}

impl<K: Resource, U: Unreadable<K>> Resource for Guarded<K, U> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &K::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &K::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(U::meta, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(U::meta_mut, K::meta_mut)
    }
}

/// The objects of a list that could be read; what is known of the others is added to `unreadable`.
pub fn readable<K, U>(list: Vec<Guarded<K, U>>, unreadable: &mut Vec<U>) -> Vec<K> {
    let mut read = Vec::with_capacity(list.len());
    for object in list {
        match object.0 {
            Ok(object) => read.push(object),
            Err(known) => unreadable.push(known),
        }
    }
    read
}
