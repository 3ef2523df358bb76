//! Encrypted reasoning is readable to the account that made it, and to no other, be it of the same vendor's.

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use weir_error::Error;
use weir_proto::chat::{CompleteFrame, CompleteRequest, Data, complete_frame::Frame};
use weir_types::RequestContext;

use super::{
    Model,
    json::{Object, Raw},
};
use crate::app::{Frames, chat::warn};

const ENCRYPTED: &str = "encrypted_content";
const REFUSED: &str = "invalid_encrypted_content";
const DROPPED: &str = "dropped;reasoning";

/// Asks; once more without what was thought, where that is all that is wrong and the client does not insist.
pub(super) async fn run(
    model: &dyn Model,
    ctx: &RequestContext,
    request: CompleteRequest,
    id: &str,
) -> Result<Frames, Error> {
    let again = (!request.strict && holds(&request.body, ENCRYPTED)).then(|| request.clone());
    let mut frames = model.run(ctx, request, id).await?;
    let Some(mut again) = again else { return Ok(frames) };
    let first = frames.next().await;
    if !matches!(&first, Some(Ok(CompleteFrame { frame: Some(Frame::Head(head)) })) if head.status == 400) {
        return Ok(Box::pin(stream::iter(first).chain(frames)));
    }
    let (mut body, mut rest) = (BytesMut::new(), Vec::new());
    while let Some(frame) = frames.next().await {
        match frame {
            Ok(CompleteFrame { frame: Some(Frame::Data(data)) }) => body.extend_from_slice(&data.bytes),
            other => rest.push(other),
        }
    }
    let bare = holds(&body, REFUSED).then(|| thoughtless(&again.body)).flatten();
    let Some(bare) = bare else {
        let data = CompleteFrame { frame: Some(Frame::Data(Data { bytes: body.freeze() })) };
        let all = first.into_iter().chain([Ok(data)]).chain(rest);
        return Ok(Box::pin(stream::iter(all)));
    };
    tracing::info!(response.id = id, "a provider can't read reasoning of another account, asking without it");
    again.body = bare;
    let frames = model.run(ctx, again, id).await?;
    Ok(Box::pin(frames.map(|frame| {
        let mut frame = frame?;
        if let Some(Frame::Head(head)) = &mut frame.frame {
            warn(head, DROPPED);
        }
        Ok(frame)
    })))
}

fn holds(bytes: &[u8], what: &str) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.contains(what))
}

/// The body without reasoning, and without the ids by which its provider would miss it. `None`: there is none.
fn thoughtless(body: &[u8]) -> Option<Bytes> {
    let mut body = Object::parse(body)?;
    let items: Vec<Raw> = body.read("input")?;
    let all = items.len();
    let left: Vec<Raw> = items.into_iter().filter_map(without).collect();
    if left.len() == all {
        return None;
    }
    body.set("input", &left);
    Some(body.to_vec().into())
}

fn without(item: Raw) -> Option<Raw> {
    let Some(mut object) = Object::of(&item) else { return Some(item) };
    match object.read::<String>("type").as_deref() {
        Some("reasoning") => None,
        Some("message" | "function_call" | "custom_tool_call") => {
            object.remove("id");
            Some(object.into_raw())
        }
        _ => Some(item),
    }
}
