//! Tables inside of a table, and lists of tables.

use toml::de::DeValue;

use super::Reader;

impl<'d> Reader<'d> {
    /// A table.
    #[must_use]
    pub fn table(&self, key: &str) -> Option<Self> {
        let value = self.ask(key)?;
        let table = self.expect(key, "a table", value, DeValue::as_table)?;
        Some(Self::new(self.document, table, value.span(), self.path_of(key)))
    }

    /// A list of tables; `None` when the key is absent or not a list. Items of another type are reported and left
    /// out.
    #[must_use]
    pub fn tables(&self, key: &str) -> Option<Vec<Self>> {
        self.tables_like(key, "")
    }

    /// The same, with an example that the message shows where something else is written. The example may be empty.
    #[must_use]
    pub fn tables_like(&self, key: &str, example: &str) -> Option<Vec<Self>> {
        let value = self.ask(key)?;
        let instead = value.get_ref().as_array().is_none_or(|list| list.iter().any(|it| !it.get_ref().is_table()));
        if instead && !example.is_empty() {
            // Names the types and not the value, which may be a secret in the wrong place.
            let found =
                if value.get_ref().is_array() { "a list of something else" } else { value.get_ref().type_str() };
            let message = format!("expected a list of tables, found {found}");
            self.error(key, message, format!("write {example}"));
            return None;
        }
        if value.get_ref().is_table() {
            let fix = format!("write [[{key}]] with two brackets, or {key} = [{{ … }}]");
            self.error(key, "expected a list of tables, found one table", fix);
            return None;
        }
        let array = self.expect(key, "a list of tables", value, DeValue::as_array)?;
        let mut readers = Vec::with_capacity(array.len());
        for (position, item) in array.iter().enumerate() {
            let key = format!("{key}[{position}]");
            match item.get_ref().as_table() {
                Some(table) => readers.push(Self::new(self.document, table, item.span(), self.path_of(&key))),
                None => self.wrong_type(&key, item, "a table"),
            }
        }
        Some(readers)
    }

    /// The names in this table, whatever they are. Marks all of them as known.
    #[must_use]
    pub fn names(&self) -> Vec<&'d str> {
        self.any_name.set(true);
        self.table.keys().map(|key| &**key.get_ref()).collect()
    }

    /// Whether the value of `key` is `true` or `false`.
    #[must_use]
    pub fn is_bool(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.get_ref().as_bool().is_some())
    }

    /// The tables inside this one, whatever their names (as in `[scheme.NAME]`). Marks all keys as known.
    #[must_use]
    pub fn named_tables(&self) -> Vec<(&'d str, Self)> {
        self.any_name.set(true);
        let mut readers = Vec::with_capacity(self.table.len());
        for (key, value) in self.table.iter() {
            let name: &'d str = key.get_ref();
            if let Some(table) = self.expect(name, "a table", value, DeValue::as_table) {
                readers.push((name, Self::new(self.document, table, value.span(), self.path_of(name))));
            }
        }
        readers
    }
}
