//! The [`Api`] out of descriptors; what cannot be served is refused here, by name.

use std::collections::HashSet;

use http::{Method, StatusCode, uri::PathAndQuery};
use prost_reflect::{DescriptorPool, MethodDescriptor};
use weir_error::Code;
use weir_proto::http::HttpRule;
use weir_types::scope;

use crate::{
    Api, Binding, BuildError, Operation, Route,
    api::Body,
    options,
    shape::{Kind, Many, Shape, Shapes},
    template::Template,
};

impl Api {
    /// # Errors
    /// Names what cannot be served.
    pub fn new(descriptors: &[u8]) -> Result<Self, BuildError> {
        let pool = DescriptorPool::decode(descriptors).map_err(|e| BuildError(e.to_string()))?;
        let mut api = Self {
            shapes: Shapes::default(),
            operations: Vec::new(),
            routes: Vec::new(),
            router: matchit::Router::new(),
        };
        for service in pool.services() {
            for method in service.methods() {
                let Some(rule) = options::http(&method)? else { continue };
                let name = method.full_name().to_owned();
                api.add(&method, &rule).map_err(|e| BuildError(format!("{name}: {}", e.0)))?;
            }
        }
        for (at, route) in api.routes.iter_mut().enumerate() {
            route.methods = methods(&route.bindings);
            let inserted = api.router.insert(route.pattern.clone(), at);
            inserted.map_err(|e| BuildError(format!("path {}: {e}", route.pattern)))?;
        }
        Ok(api)
    }

    fn add(&mut self, method: &MethodDescriptor, rule: &HttpRule) -> Result<(), BuildError> {
        if method.is_client_streaming() || method.is_server_streaming() {
            return Err(BuildError("streams have no generic form in REST: write a handler".to_owned()));
        }
        let operation = self.operation_of(method)?;
        self.check_page(&operation)?;
        let at = self.operations.len();
        for rule in std::iter::once(rule).chain(&rule.additional_bindings) {
            let (verb, path) = options::pattern(rule)?;
            if !rule.response_body.is_empty() {
                return Err(BuildError("response_body: answers are whole messages".to_owned()));
            }
            if !path.starts_with("/v1/") {
                return Err(BuildError(format!("path {path}: must begin with /v1/")));
            }
            let template = self.in_json(&operation, Template::parse(path)?)?;
            let body = self.body(&operation, &verb, &rule.body)?;
            let binding = Binding { operation: at, verb, template, body };
            self.check_binding(&operation, &binding)?;
            self.bind(binding)?;
        }
        self.operations.push(operation);
        Ok(())
    }

    fn operation_of(&mut self, method: &MethodDescriptor) -> Result<Operation, BuildError> {
        let service = method.parent_service();
        let rules = options::operation(method)?;
        let known = |s: &String| scope::TENANT.contains(&s.as_str()) || s == scope::PLATFORM_ADMIN;
        if let Some(unknown) = rules.scopes.iter().find(|s| !known(s)) {
            return Err(BuildError(format!("there is no scope {unknown}")));
        }
        if let Some(unknown) = rules.errors.iter().find(|code| Code::parse(code).is_none()) {
            return Err(BuildError(format!("there is no error code {unknown}")));
        }
        let status = if rules.status == 0 { 200 } else { rules.status };
        let status = u16::try_from(status).ok().and_then(|s| StatusCode::from_u16(s).ok());
        let status = status
            .filter(|s| s.is_success())
            .ok_or_else(|| BuildError("status: not one of success".into()))?;
        let path = format!("/{}/{}", service.full_name(), method.name());
        let comment = options::comment(method.parent_file().file_descriptor_proto(), method.path());
        let (summary, description) = options::summary(&comment, method.name());
        let mut packages = service.package_name().split('.');
        let operation = Operation {
            path: PathAndQuery::try_from(path).map_err(|e| BuildError(e.to_string()))?,
            service: packages.nth(1).unwrap_or_default().to_owned(),
            input: self.shapes.add(&method.input())?,
            output: self.shapes.add(&method.output())?,
            method: method.clone(),
            rules,
            status,
            summary,
            description,
        };
        for path in location_fields(&operation.rules.location) {
            self.check_location(&operation, path)?;
        }
        Ok(operation)
    }

    /// Paths name fields of the proto; clients see their names in JSON.
    fn in_json(&self, operation: &Operation, mut template: Template) -> Result<Template, BuildError> {
        let shape = self.shapes.get(operation.input);
        for name in &mut template.fields {
            let field = shape.fields.iter().find(|f| f.field.name() == name);
            let field = field.ok_or_else(|| BuildError(format!("there is no field {name}")))?;
            if field.many != Many::One || matches!(field.kind, Kind::Message(_)) {
                return Err(BuildError(format!("{name} is no single value, so it cannot stand in a path")));
            }
            template.route = template.route.replace(&format!("{name}}}"), &format!("{}}}", field.name));
            name.clone_from(&field.name);
        }
        Ok(template)
    }

    fn body(&self, operation: &Operation, verb: &Method, body: &str) -> Result<Body, BuildError> {
        if !body.is_empty() && matches!(*verb, Method::GET | Method::DELETE) {
            return Err(BuildError(format!("{verb} takes no body")));
        }
        if matches!(body, "" | "*") {
            return Ok(if body.is_empty() { Body::None } else { Body::Whole });
        }
        let shape = self.shapes.get(operation.input);
        let field = shape.fields.iter().find(|f| f.field.name() == body && f.many == Many::One);
        match field {
            Some(field) if matches!(field.kind, Kind::Message(_)) => Ok(Body::Field(field.name.clone())),
            _ => Err(BuildError(format!("body: {body} is no single message"))),
        }
    }

    fn check_binding(&self, operation: &Operation, binding: &Binding) -> Result<(), BuildError> {
        let shape = self.shapes.get(operation.input);
        let complex = |f: &&crate::shape::Field| matches!(f.kind, Kind::Message(_)) || f.many == Many::Map;
        if let Some(field) = shape.fields.iter().filter(|f| binding.in_query(f)).find(complex) {
            let name = &field.name;
            return Err(BuildError(format!("{name} is an object, so it belongs into a body, not a query")));
        }
        let mut names = HashSet::new();
        match shape.fields.iter().find(|f| !names.insert(f.name.as_str())) {
            Some(twice) => Err(BuildError(format!("two fields are called {}", twice.name))),
            None => Ok(()),
        }
    }

    /// Lists page one way: `limit` and `after`, answered with `data`, `has_more` and `next_cursor`.
    fn check_page(&self, operation: &Operation) -> Result<(), BuildError> {
        let (input, output) = (self.shapes.get(operation.input), self.shapes.get(operation.output));
        let has = |shape: &Shape, names: &[&str]| names.iter().filter(|n| shape.field(n).is_some()).count();
        let (asked, answered) =
            (has(input, &["limit", "after"]), has(output, &["data", "has_more", "next_cursor"]));
        if matches!((asked, answered), (2, 3) | (0 | 1, 0 | 1)) {
            return Ok(());
        }
        Err(BuildError("a page has limit and after, and answers data, has_more and next_cursor".to_owned()))
    }

    fn check_location(&self, operation: &Operation, path: &str) -> Result<(), BuildError> {
        let mut shape = Some(self.shapes.get(operation.output));
        for name in path.split('.') {
            let field = shape.and_then(|s| s.fields.iter().find(|f| f.field.name() == name));
            let field = field.ok_or_else(|| BuildError(format!("location: there is no field {path}")))?;
            shape = match field.kind {
                Kind::Message(inner) => Some(self.shapes.get(inner)),
                _ => None,
            };
        }
        Ok(())
    }

    fn bind(&mut self, binding: Binding) -> Result<(), BuildError> {
        let pattern = &binding.template.route;
        let Some(route) = self.routes.iter_mut().find(|r| r.pattern == *pattern) else {
            let pattern = pattern.clone();
            self.routes.push(Route { pattern, methods: Vec::new(), bindings: vec![binding] });
            return Ok(());
        };
        if route.bindings.iter().any(|b| b.verb == binding.verb) {
            return Err(BuildError(format!("{} {pattern} is there already", binding.verb)));
        }
        route.bindings.push(binding);
        Ok(())
    }
}

/// `{id}` and `{api_key.id}` of a location.
pub(crate) fn location_fields(location: &str) -> impl Iterator<Item = &str> {
    location.split('{').skip(1).filter_map(|part| part.split('}').next())
}

fn methods(bindings: &[Binding]) -> Vec<Method> {
    let mut methods = Vec::new();
    for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        if bindings.iter().any(|b| b.verb == method) {
            let head = method == Method::GET;
            methods.push(method);
            methods.extend(head.then_some(Method::HEAD));
        }
    }
    methods
}
