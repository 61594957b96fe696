//! What mail programs are told, as used.

use crate::Text;

/// `[setup]`
#[derive(Clone, Debug)]
pub struct Setup {
    /// Mail programs and the page `/setup` get answers.
    pub enabled: bool,
    /// Name of the service; absent: the tenant's.
    pub name: Option<Text>,
    /// Path of CalDAV and CardDAV at the cells, of unreserved characters; absent: nobody is told of any.
    pub dav_path: Option<String>,
}
