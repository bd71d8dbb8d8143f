//! What services of one Nacos namespace are called in the mesh, where settings give them a namespace of their own.

use mesh_core::discovery::nacos::{Book, Name};

/// Names between one namespace of Nacos and the mesh.
#[derive(Clone, Debug)]
pub(super) struct Labels {
    /// Id of the namespace.
    namespace: String,
    /// Mesh namespace that the default group would have.
    own: String,
    /// Mesh namespace that it has.
    given: String,
}

impl Labels {
    pub(super) fn new(namespace: &str, given: Option<&str>) -> Self {
        let own = Name::new(namespace, "", "s").mesh_namespace();
        Labels { namespace: namespace.to_owned(), given: given.unwrap_or(&own).to_owned(), own }
    }

    /// What a service is called in the mesh.
    pub(super) fn of(&self, name: &Name, book: &Book) -> String {
        let label = book.label(name).unwrap_or_else(|| name.label());
        replaced(&label, &self.own, &self.given)
    }

    /// The service that is called so; one that nobody has heard of is taken to be called as it is asked for. `None` = a
    /// name of another namespace.
    pub(super) fn service(&self, label: &str, book: &Book) -> Option<Name> {
        let (service, namespace) = label.split_once('.')?;
        if let Some(name) = book.by_label(&replaced(label, &self.given, &self.own)) {
            return Some(name.clone());
        }
        (namespace == self.given).then(|| Name::new(&self.namespace, "", service))
    }
}

fn replaced(label: &str, from: &str, to: &str) -> String {
    match label.split_once('.') {
        Some((service, namespace)) if namespace == from => format!("{service}.{to}"),
        Some(_) | None => label.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_called_by_the_namespace_that_settings_give() {
        let mut book = Book::default();
        let known = Name::new("dev", "", "ORDER");
        book.learn(&known).unwrap();
        let labels = Labels::new("dev", Some("shop"));
        assert_eq!(labels.of(&known, &book), "order.shop");
        assert_eq!(labels.service("order.shop", &book), Some(known));
        assert_eq!(labels.service("pay.shop", &book), Some(Name::new("dev", "", "pay")));
        assert_eq!(labels.service("pay.other", &book), None);
        assert_eq!(Labels::new("public", None).service("pay.default", &book), Some(Name::new("", "", "pay")));
    }
}
