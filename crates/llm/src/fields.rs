//! The names of fields, as each client knows them. Translations name what they lose as OpenAI or Anthropic does, whichever
//! they were written for first.

pub(crate) fn openai(field: &str) -> &str {
    match field {
        "stop_sequences" => "stop",
        "output_config.effort" | "thinking.budget_tokens" => "reasoning_effort",
        "messages.content.tool_result" => "messages.role.tool",
        field => field,
    }
}

pub(crate) fn responses(field: &str) -> &str {
    match field {
        "max_tokens" => "max_output_tokens",
        "reasoning_effort" | "output_config.effort" => "reasoning.effort",
        "thinking" | "thinking.budget_tokens" => "reasoning",
        "response_format" => "text.format",
        "response_format.json_schema.description" => "text.format.description",
        "verbosity" => "text.verbosity",
        "logprobs" => "top_logprobs",
        "messages.role.system" => "input.role.system",
        "messages.role.tool" | "messages.content.tool_result" => "input.function_call_output",
        "messages.tool_calls.function.arguments" => "input.function_call.arguments",
        "messages.content.image_url.detail" => "input.content.detail",
        "messages.content.image_url.url" => "input.content.image_url",
        "messages.content.image.file_id" | "messages.content.file.file_id" => "input.content.file_id",
        "messages.content.document" => "input.content.input_file",
        "messages.content.image" => "input.content.input_image",
        "messages.content.audio" | "messages.content.input_audio" => "input.content.input_audio",
        "messages.content.compaction" => "input.compaction",
        field => field,
    }
}

pub(crate) fn anthropic(field: &str) -> &str {
    match field {
        "stop" => "stop_sequences",
        "reasoning_effort" => "thinking",
        "response_format" => "output_config.format",
        "parallel_tool_calls" => "tool_choice.disable_parallel_tool_use",
        "user" => "metadata.user_id",
        "tools.parameters" => "tools.input_schema",
        "messages.role.system" => "system",
        "messages.role.tool" => "messages.content.tool_result",
        "messages.tool_calls.function.arguments" => "messages.content.tool_use.input",
        "messages.content.image_url.url" => "messages.content.image.source.url",
        "messages.content.image.file_id" => "messages.content.image.source.file_id",
        "messages.content.file.file_id" => "messages.content.document.source.file_id",
        field => field,
    }
}

pub(crate) fn gemini(field: &str) -> &str {
    match field {
        "max_tokens" => "generationConfig.maxOutputTokens",
        "stop" | "stop_sequences" => "generationConfig.stopSequences",
        "temperature" => "generationConfig.temperature",
        "top_p" => "generationConfig.topP",
        "top_k" => "generationConfig.topK",
        "seed" => "generationConfig.seed",
        "frequency_penalty" => "generationConfig.frequencyPenalty",
        "presence_penalty" => "generationConfig.presencePenalty",
        "n" => "generationConfig.candidateCount",
        "dimensions" => "outputDimensionality",
        "logprobs" => "generationConfig.responseLogprobs",
        "response_format" => "generationConfig.responseSchema",
        "reasoning_effort" | "thinking" => "generationConfig.thinkingConfig",
        "output_config.effort" => "generationConfig.thinkingConfig.thinkingLevel",
        "thinking.budget_tokens" => "generationConfig.thinkingConfig.thinkingBudget",
        "tool_choice" | "parallel_tool_calls" => "toolConfig.functionCallingConfig",
        "tools.parameters" => "tools.functionDeclarations.parameters",
        "thought_signature" => "contents.parts.thoughtSignature",
        "messages.role.system" => "systemInstruction",
        "messages.role.tool" | "messages.content.tool_result" => "contents.parts.functionResponse",
        "messages.tool_calls.function.arguments" => "contents.parts.functionCall.args",
        "messages.content.image_url.detail" => "contents.parts.mediaResolution",
        "messages.content.document"
        | "messages.content.image"
        | "messages.content.audio"
        | "messages.content.input_audio"
        | "messages.content.video" => "contents.parts.inlineData",
        "messages.content.image_url.url"
        | "messages.content.image.file_id"
        | "messages.content.file.file_id" => "contents.parts.fileData",
        field => field,
    }
}

#[cfg(test)]
mod tests {
    use crate::{Dialect, canonical::Losses};

    #[test]
    fn each_client_is_told_in_its_own_words() {
        let mut losses = Losses::default();
        losses.altered("response_format");
        losses.dropped("stop_sequences");
        losses.altered("thinking.budget_tokens");
        losses.dropped("logit_bias");
        let told = |dialect: Dialect| losses.told(dialect.client()).header();
        assert_eq!(
            told(Dialect::OpenAi),
            "altered;reasoning_effort, altered;response_format, dropped;logit_bias, dropped;stop"
        );
        assert_eq!(
            told(Dialect::Responses),
            "altered;reasoning, altered;text.format, dropped;logit_bias, dropped;stop_sequences"
        );
        assert_eq!(
            told(Dialect::Anthropic),
            "altered;output_config.format, altered;thinking.budget_tokens, dropped;logit_bias, dropped;stop_sequences"
        );
        assert_eq!(
            told(Dialect::Gemini),
            "altered;generationConfig.responseSchema, altered;generationConfig.thinkingConfig.thinkingBudget, \
             dropped;generationConfig.stopSequences, dropped;logit_bias"
        );
        let mut sound = Losses::default();
        sound.dropped("messages.content.audio");
        let told = |dialect: Dialect| sound.told(dialect.client()).header();
        assert_eq!(told(Dialect::Gemini), "dropped;contents.parts.inlineData");
        assert_eq!(told(Dialect::Responses), "dropped;input.content.input_audio");
        // The names that clients know already stay.
        for client in [Dialect::OpenAi, Dialect::Responses, Dialect::Anthropic, Dialect::Gemini] {
            let once = losses.told(client.client());
            assert_eq!(once.told(client.client()), once, "{client:?}");
        }
    }
}
