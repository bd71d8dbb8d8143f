//! The model routes of a snapshot, and which of them has a host: worked out once, when they are put in, because every
//! request that an application makes asks for it.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, ops::Deref, sync::Arc};

use ahash::AHashMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::model_route::ModelRoute;

/// Model routes, ordered by name, with a table of their hosts. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ModelRoutes(Arc<Table>);

#[derive(Debug, Default)]
struct Table {
    routes: Vec<Arc<ModelRoute>>,
    /// Places of routes by host, in lower case.
    hosts: AHashMap<String, usize>,
}

impl ModelRoutes {
    /// The route that has this host, without regard to case; of several the first one. One lookup, or none where there
    /// are no routes.
    pub fn of_host(&self, host: &str) -> Option<&Arc<ModelRoute>> {
        if self.0.hosts.is_empty() {
            return None;
        }
        let place = self.0.hosts.get(lower(host).as_ref())?;
        self.0.routes.get(*place)
    }
}

fn lower(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(host.to_ascii_lowercase());
    }
    Cow::Borrowed(host)
}

impl FromIterator<Arc<ModelRoute>> for ModelRoutes {
    fn from_iter<I: IntoIterator<Item = Arc<ModelRoute>>>(routes: I) -> Self {
        let mut table = Table { routes: routes.into_iter().collect(), hosts: AHashMap::new() };
        for (place, route) in table.routes.iter().enumerate() {
            for host in &route.hosts {
                table.hosts.entry(lower(host).into_owned()).or_insert(place);
            }
        }
        ModelRoutes(Arc::new(table))
    }
}

impl From<Vec<Arc<ModelRoute>>> for ModelRoutes {
    fn from(routes: Vec<Arc<ModelRoute>>) -> Self {
        routes.into_iter().collect()
    }
}

impl<const N: usize> From<[Arc<ModelRoute>; N]> for ModelRoutes {
    fn from(routes: [Arc<ModelRoute>; N]) -> Self {
        routes.into_iter().collect()
    }
}

impl Deref for ModelRoutes {
    type Target = [Arc<ModelRoute>];

    fn deref(&self) -> &Self::Target {
        &self.0.routes
    }
}

/// The table follows from the routes.
impl PartialEq for ModelRoutes {
    fn eq(&self, other: &Self) -> bool {
        self.0.routes == other.0.routes
    }
}

/// As a list of routes.
impl Serialize for ModelRoutes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.routes.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ModelRoutes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<Arc<ModelRoute>>::deserialize(deserializer).map(ModelRoutes::from)
    }
}
