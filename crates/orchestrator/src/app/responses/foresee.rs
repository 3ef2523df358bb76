//! What is known of a request before anybody is asked: what runs without its client can't be refused later.

use weir_error::{Code, Error};
use weir_llm::Dialect;
use weir_proto::chat::CompleteRequest;
use weir_types::RequestContext;

use crate::app::{Chat, attempt::Asked, vault::Owner};

impl Chat {
    /// What the provider that would be asked first could not be told.
    ///
    /// # Errors
    /// Nobody serves the model; nobody understands the request, or gets all of it and the client insists.
    pub(super) async fn foreseen(
        &self,
        ctx: &RequestContext,
        request: CompleteRequest,
    ) -> Result<String, Error> {
        let mut asked = Asked::new(request, Dialect::Responses)?;
        let owner = Owner::of(ctx);
        let mut refused = Error::new(Code::ModelNotFound, "nobody serves this model").with_param("model");
        for candidate in self.resolve(ctx, &asked.request.model).await? {
            match asked.body_for(&candidate, &self.catalog, (&self.vault, owner.as_ref())).await {
                Ok(outgoing) => return Ok(outgoing.losses.header()),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}
