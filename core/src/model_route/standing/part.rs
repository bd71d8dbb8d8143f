//! What rests: a key, a model under a key, a place. Looked for by texts that others own, so that asking costs no memory.

use std::hash::Hash;

use hashbrown::Equivalent;

use crate::model::model_route::{Credential, ModelEndpoint, ModelTarget};

/// What rests. `T` is `String` where it is kept, and `&str` where it is looked for; both have the same hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part<T> {
    /// A key, wherever it is used.
    Credential(Key<T>),
    /// A model under a key.
    Model(Key<T>, T),
    /// A place.
    Endpoint(Place<T>),
}

/// What stands for a key: where it is read from, or the place of a target that needs none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key<T> {
    File(T),
    Secret(T, T),
    Place(Place<T>),
}

/// Where a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place<T> {
    /// Host and port, outside of the mesh, and the proxy through which it is reached: another way may be open.
    External(T, u16, Option<T>),
    /// `name.namespace:port`.
    Service(T),
}

/// What of a target can rest: its key, its `model` under that key, its place.
pub(super) fn parts<'a>(target: &'a ModelTarget, model: &'a str) -> [Part<&'a str>; 3] {
    let place = match &target.endpoint {
        ModelEndpoint::External { host, port, proxy, .. } => Place::External(host.as_str(), *port, proxy.as_deref()),
        ModelEndpoint::Service { authority, .. } => Place::Service(authority.as_str()),
    };
    let key = target.credential.as_ref().map_or(Key::Place(place), Key::of);
    [Part::Credential(key), Part::Model(key, model), Part::Endpoint(place)]
}

impl<'a> Key<&'a str> {
    /// The key that is read from there.
    pub(super) fn of(credential: &'a Credential) -> Key<&'a str> {
        match credential {
            Credential::File(path) => Key::File(path),
            Credential::Secret { name, key } => Key::Secret(name, key),
        }
    }
}

impl<T> Part<T> {
    fn map<'a, U>(&'a self, text: impl Fn(&'a T) -> U) -> Part<U> {
        match self {
            Part::Credential(key) => Part::Credential(key.map(&text)),
            Part::Model(key, model) => Part::Model(key.map(&text), text(model)),
            Part::Endpoint(place) => Part::Endpoint(place.map(&text)),
        }
    }
}

impl<T> Key<T> {
    fn map<'a, U>(&'a self, text: &impl Fn(&'a T) -> U) -> Key<U> {
        match self {
            Key::File(path) => Key::File(text(path)),
            Key::Secret(name, key) => Key::Secret(text(name), text(key)),
            Key::Place(place) => Key::Place(place.map(text)),
        }
    }
}

impl<T> Place<T> {
    fn map<'a, U>(&'a self, text: &impl Fn(&'a T) -> U) -> Place<U> {
        match self {
            Place::External(host, port, proxy) => Place::External(text(host), *port, proxy.as_ref().map(text)),
            Place::Service(authority) => Place::Service(text(authority)),
        }
    }
}

impl Part<String> {
    /// As it is looked for.
    pub(super) fn borrowed(&self) -> Part<&str> {
        self.map(String::as_str)
    }
}

impl Part<&str> {
    /// As it is kept.
    pub(super) fn kept(&self) -> Part<String> {
        self.map(|text| (*text).to_owned())
    }
}

impl Equivalent<Part<String>> for Part<&str> {
    fn equivalent(&self, kept: &Part<String>) -> bool {
        *self == kept.borrowed()
    }
}
