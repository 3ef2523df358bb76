//! Routes, and the operations behind them.

use http::{Method, StatusCode, uri::PathAndQuery};
use prost_reflect::{DynamicMessage, MethodDescriptor};
use weir_error::{Code, Error};
use weir_proto::api::{Caller, Operation as Rules};

use crate::{
    query, read,
    shape::{Field, Kind, Shape, ShapeId, Shapes},
    template::{self, Template},
    value,
};

/// Everything public.
#[derive(Debug)]
pub struct Api {
    pub(crate) shapes: Shapes,
    pub(crate) operations: Vec<Operation>,
    pub(crate) routes: Vec<Route>,
    pub(crate) router: matchit::Router<usize>,
}

/// A public RPC.
#[derive(Debug)]
pub struct Operation {
    pub(crate) method: MethodDescriptor,
    /// `/weir.control.v1.Tenants/CreateTenant`.
    pub(crate) path: PathAndQuery,
    /// What of its package names the service that has it: `control` of `weir.control.v1`.
    pub(crate) service: String,
    pub(crate) rules: Rules,
    pub(crate) status: StatusCode,
    pub(crate) input: ShapeId,
    pub(crate) output: ShapeId,
    pub(crate) summary: String,
    pub(crate) description: String,
}

/// A path, and what its methods do.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    pub(crate) pattern: String,
    pub(crate) methods: Vec<Method>,
    pub(crate) bindings: Vec<Binding>,
}

/// A method on a path, bound to an operation.
#[derive(Debug, PartialEq, Eq)]
pub struct Binding {
    pub(crate) operation: usize,
    pub(crate) verb: Method,
    pub(crate) template: Template,
    pub(crate) body: Body,
}

/// Which part of the request message the HTTP body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    /// All that the path doesn't take.
    Whole,
    /// One field, by its name in JSON.
    Field(String),
}

impl Api {
    /// The route of a path below `/v1`.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Route> {
        // An empty segment names nothing.
        if path.contains("//") {
            return None;
        }
        self.router.at(path).ok().and_then(|found| self.routes.get(*found.value))
    }

    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    #[must_use]
    pub fn operation(&self, binding: &Binding) -> &Operation {
        // Bindings are made with their operation.
        &self.operations[binding.operation]
    }

    pub(crate) fn input(&self, binding: &Binding) -> &Shape {
        self.shapes.get(self.operation(binding).input)
    }

    /// The request message. `body` is what came, however little.
    ///
    /// # Errors
    /// `InvalidJson`; `InvalidType`, `InvalidArgument`, `MissingParameter` naming the field: a JSON pointer into the
    /// body, else the parameter's name. `NotFound` for a path that is no text.
    pub fn request(
        &self,
        binding: &Binding,
        path: &str,
        query: &str,
        body: &[u8],
    ) -> Result<DynamicMessage, Error> {
        let (shape, taken) = (self.input(binding), &binding.template.fields);
        let mut message = match &binding.body {
            Body::Whole => read::object(&self.shapes, self.operation(binding).input, taken, body)?,
            Body::None => {
                refuse_body(body)?;
                DynamicMessage::new(shape.message.clone())
            }
            Body::Field(name) => self.wrapped(shape, name, body)?,
        };
        self.fill_from_path(binding, path, &mut message)?;
        let open: Vec<_> = shape.fields.iter().filter(|f| binding.in_query(f)).collect();
        query::fill(&open, query, &mut message)?;
        Ok(message)
    }

    fn wrapped(&self, shape: &Shape, name: &str, body: &[u8]) -> Result<DynamicMessage, Error> {
        let mut message = DynamicMessage::new(shape.message.clone());
        if let Some(field) = shape.field(name)
            && let Kind::Message(inner) = field.kind
        {
            let inner = read::object(&self.shapes, inner, &[], body)?;
            message.set_field(&field.field, prost_reflect::Value::Message(inner));
        }
        Ok(message)
    }

    fn fill_from_path(
        &self,
        binding: &Binding,
        path: &str,
        message: &mut DynamicMessage,
    ) -> Result<(), Error> {
        if binding.template.fields.is_empty() {
            return Ok(());
        }
        let nothing = || Error::new(Code::NotFound, "there is nothing at this path");
        let found = self.router.at(path).map_err(|_| nothing())?;
        let shape = self.input(binding);
        for (name, text) in found.params.iter() {
            let field = shape.field(name).ok_or_else(nothing)?;
            // A name that is malformed names nothing, and a stranger learns no more than that.
            let value = value::from_text(field, &template::decode(text)?);
            let value = value.map_err(|e| nothing().with_source(e))?;
            message.set_field(&field.field, value);
        }
        Ok(())
    }

    /// A field as a service names it (`rate_limits.tokens`, `scopes[0]`), as this request's client knows it.
    pub(crate) fn param(&self, binding: &Binding, named: &str) -> Option<String> {
        let mut shape = self.input(binding);
        let mut pointer = String::new();
        let mut parts = named.split(['.', '[']).map(|part| part.trim_end_matches(']')).peekable();
        let field = shape.fields.iter().find(|f| parts.peek() == Some(&f.field.name()))?;
        if binding.template.fields.contains(&field.name) || binding.in_query(field) {
            return Some(field.name.clone());
        }
        if binding.body == Body::Field(field.name.clone()) {
            parts.next();
            if let Kind::Message(inner) = field.kind {
                shape = self.shapes.get(inner);
            }
        }
        for part in parts {
            let field = shape.fields.iter().find(|f| f.field.name() == part);
            pointer = format!("{pointer}/{}", field.map_or(part, |f| &f.name));
            if let Some(Field { kind: Kind::Message(inner), .. }) = field {
                shape = self.shapes.get(*inner);
            }
        }
        Some(pointer)
    }
}

fn refuse_body(body: &[u8]) -> Result<(), Error> {
    // Clients that always send an object mean nothing by it.
    let bare: Vec<u8> = body.iter().copied().filter(|b| !b.is_ascii_whitespace()).take(3).collect();
    if bare.is_empty() || bare == b"{}" {
        return Ok(());
    }
    Err(Error::new(Code::InvalidArgument, "this operation takes no body"))
}

impl Operation {
    /// The service that has it: `control`.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    /// `weir.control.v1.Tenants.CreateTenant`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.method.full_name()
    }

    #[must_use]
    pub fn caller(&self) -> Caller {
        self.rules.caller()
    }

    /// Scopes that the caller must have, all of them.
    #[must_use]
    pub fn scopes(&self) -> &[String] {
        &self.rules.scopes
    }
}

impl Route {
    /// `/v1/tenants/{id}`.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// `HEAD` where there is `GET`.
    #[must_use]
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }

    #[must_use]
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    #[must_use]
    pub fn binding(&self, method: &Method) -> Option<&Binding> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.bindings.iter().find(|b| b.verb == *method)
    }
}

impl Binding {
    /// Whether a body is read at all.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        matches!(self.verb, Method::POST | Method::PUT | Method::PATCH)
    }

    /// Whether there must be one.
    #[must_use]
    pub fn takes_body(&self) -> bool {
        self.body != Body::None
    }

    #[must_use]
    pub fn verb(&self) -> &Method {
        &self.verb
    }

    pub(crate) fn in_query(&self, field: &Field) -> bool {
        let elsewhere = match &self.body {
            Body::Whole => true,
            Body::Field(name) => *name == field.name,
            Body::None => false,
        };
        !elsewhere && !self.template.fields.contains(&field.name)
    }
}
