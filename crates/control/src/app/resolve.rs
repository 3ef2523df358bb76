//! What a presented key may do, for gateways.

use subtle::ConstantTimeEq as _;
use uuid::Uuid;
use weir_error::{Code, Error};
use weir_proto::control::ResolveKeyRequest;
use weir_types::{KeyId, Principal, RequestContext};

use super::App;
use crate::{metrics::Lookup, store::Grant};

/// Those that clients show their keys to.
const DOORS: [&str; 2] = ["gateway", "realtime"];

#[derive(Debug)]
pub(crate) enum Resolved {
    Key(Grant),
    /// The platform operator's. The id is made from the hash: such a key has no row.
    Platform(KeyId),
}

impl App {
    /// One text for every reason, so that nobody learns which keys there are.
    pub(crate) async fn resolve(
        &self,
        ctx: &RequestContext,
        request: &ResolveKeyRequest,
    ) -> Result<Resolved, Error> {
        if !matches!(&ctx.principal, Principal::Service(name) if DOORS.contains(&&**name)) {
            return Err(Error::new(
                Code::PermissionDenied,
                "only the services that clients call look up keys",
            ));
        }
        let Ok(sha256) = <[u8; 32]>::try_from(&*request.sha256) else {
            return Err(Error::invalid("sha256", "sha256 must have 32 bytes"));
        };
        if let Some(admin) = &self.admin_key
            && bool::from(admin.ct_eq(&sha256))
        {
            self.metrics.looked_up(Lookup::Platform);
            return Ok(Resolved::Platform(platform_id(&sha256)));
        }
        if let Some(grant) = self.keys.resolve(ctx, &sha256, self.clock.now_ms()).await? {
            self.metrics.looked_up(Lookup::Known);
            return Ok(Resolved::Key(grant));
        }
        self.metrics.looked_up(Lookup::Unknown);
        Err(Error::new(Code::NotFound, "no such API key"))
    }
}

fn platform_id(sha256: &[u8; 32]) -> KeyId {
    KeyId(Uuid::new_v5(&Uuid::NAMESPACE_OID, sha256))
}
