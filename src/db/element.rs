//! Values of columns as elements of PostgreSQL arrays, by which [`bulk`](super::bulk) statements bind many rows.

/// A column's value as an element of a PostgreSQL array.
pub(crate) trait Element {
    /// The element, borrowed where the value owns memory.
    type Element<'r>
    where
        Self: 'r;

    /// Returns the element.
    fn element(&self) -> Self::Element<'_>;
}

impl Element for String {
    type Element<'r> = &'r str;
    fn element(&self) -> &str {
        self
    }
}

impl Element for Vec<u8> {
    type Element<'r> = &'r [u8];
    fn element(&self) -> &[u8] {
        self
    }
}

impl<T: Element> Element for Option<T> {
    type Element<'r>
        = Option<T::Element<'r>>
    where
        T: 'r;
    fn element(&self) -> Option<T::Element<'_>> {
        self.as_ref().map(Element::element)
    }
}

/// Implements [`Element`] for `Copy` types.
macro_rules! copied_element {
    ($($type:ty),+) => {
        $(impl $crate::db::element::Element for $type {
            type Element<'r> = $type;
            fn element(&self) -> $type {
                *self
            }
        })+
    };
}
pub(crate) use copied_element;
copied_element!(bool, i16, i32, i64);
