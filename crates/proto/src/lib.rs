//! Contracts between services, generated from `/proto`: one module a package, and the descriptors.
#![expect(clippy::all, clippy::allow_attributes, reason = "generated code")]

macro_rules! package {
    ($module:ident, $name:literal) => {
        pub mod $module {
            tonic::include_proto!($name);
        }
    };
}

package!(analytics, "weir.analytics.v1");
package!(api, "weir.api.v1");
package!(billing, "weir.billing.v1");
package!(chat, "weir.chat.v1");
package!(control, "weir.control.v1");
package!(events, "weir.events.v1");
package!(http, "google.api");
package!(ingestion, "weir.ingestion.v1");
package!(realtime, "weir.realtime.v1");
package!(router, "weir.router.v1");

/// The `FileDescriptorSet` of everything above, with comments and what it imports.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The same without comments: what others rely on.
pub const CONTRACT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/contract.bin"));

impl std::fmt::Debug for control::CreateApiKeyResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateApiKeyResponse").field("api_key", &self.api_key).finish_non_exhaustive()
    }
}
