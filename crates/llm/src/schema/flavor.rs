//! What each provider takes of JSON Schema.

/// Whose subset of JSON Schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// Structured outputs with `strict`: <https://platform.openai.com/docs/guides/structured-outputs#supported-schemas>.
    OpenAi,
    /// `output_config.format` and strict tools:
    /// <https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations>. Bedrock takes
    /// no more, of any model: <https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html>.
    Anthropic,
    /// `responseJsonSchema`: <https://ai.google.dev/api/generate-content#FIELDS.response_json_schema>.
    Gemini,
    /// `responseSchema` and tools' `parameters`, a part of `OpenAPI` 3.0: <https://ai.google.dev/api/caching#Schema>.
    GeminiOpenApi,
    /// `format`, which llama.cpp makes a grammar of: <https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md>.
    Ollama,
}

/// Keywords, formats and habits of one flavor.
pub(super) struct Rules {
    pub(super) keywords: &'static [&'static str],
    /// `None`: all.
    pub(super) formats: Option<&'static [&'static str]>,
    /// Objects must say that they have no other members.
    pub(super) closed: bool,
    /// Objects must require all members: what may be absent becomes nullable.
    pub(super) all_required: bool,
    /// `minItems` above one is not known.
    pub(super) small_min_items: bool,
    /// References are replaced by what they name.
    pub(super) inline: bool,
    /// Schemas may not refer to themselves.
    pub(super) flat: bool,
    /// Types in capitals, one each; `nullable` for null.
    pub(super) open_api: bool,
    /// The root must be an object.
    pub(super) object_root: bool,
}

const BASE: Rules = Rules {
    keywords: &[],
    formats: None,
    closed: false,
    all_required: false,
    small_min_items: false,
    inline: false,
    flat: false,
    open_api: false,
    object_root: false,
};

const OPEN_AI: Rules = Rules {
    keywords: &[
        "type",
        "title",
        "description",
        "enum",
        "const",
        "anyOf",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "minItems",
        "maxItems",
        "pattern",
        "format",
        "multipleOf",
        "maximum",
        "exclusiveMaximum",
        "minimum",
        "exclusiveMinimum",
        "$ref",
        "$defs",
        "definitions",
    ],
    formats: Some(&["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"]),
    closed: true,
    all_required: true,
    object_root: true,
    ..BASE
};

const ANTHROPIC: Rules = Rules {
    keywords: &[
        "type",
        "title",
        "description",
        "enum",
        "const",
        "anyOf",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "minItems",
        "pattern",
        "format",
        "default",
        "$ref",
        "$defs",
        "definitions",
    ],
    formats: Some(&[
        "date-time",
        "time",
        "date",
        "duration",
        "email",
        "hostname",
        "uri",
        "ipv4",
        "ipv6",
        "uuid",
    ]),
    closed: true,
    small_min_items: true,
    flat: true,
    ..BASE
};

const GEMINI: Rules = Rules {
    keywords: &[
        "type",
        "title",
        "description",
        "format",
        "enum",
        "items",
        "prefixItems",
        "minItems",
        "maxItems",
        "minimum",
        "maximum",
        "anyOf",
        "oneOf",
        "properties",
        "additionalProperties",
        "required",
        "propertyOrdering",
        "$ref",
        "$defs",
        "$id",
        "$anchor",
    ],
    flat: true,
    ..BASE
};

const GEMINI_OPEN_API: Rules = Rules {
    keywords: &[
        "type",
        "format",
        "title",
        "description",
        "nullable",
        "enum",
        "maxItems",
        "minItems",
        "properties",
        "required",
        "minProperties",
        "maxProperties",
        "minLength",
        "maxLength",
        "pattern",
        "example",
        "anyOf",
        "propertyOrdering",
        "default",
        "items",
        "minimum",
        "maximum",
    ],
    formats: Some(&["enum", "date-time", "float", "double", "int32", "int64"]),
    inline: true,
    flat: true,
    open_api: true,
    ..BASE
};

const OLLAMA: Rules = Rules {
    keywords: &[
        "type",
        "title",
        "description",
        "default",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "prefixItems",
        "minItems",
        "maxItems",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "$ref",
        "$defs",
        "definitions",
    ],
    formats: Some(&["date", "time", "date-time", "uuid"]),
    ..BASE
};

impl Flavor {
    pub(super) fn rules(self) -> &'static Rules {
        match self {
            Self::OpenAi => &OPEN_AI,
            Self::Anthropic => &ANTHROPIC,
            Self::Gemini => &GEMINI,
            Self::GeminiOpenApi => &GEMINI_OPEN_API,
            Self::Ollama => &OLLAMA,
        }
    }
}
