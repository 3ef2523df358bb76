// Starts Swagger UI over this gateway's own description. A file of its own, so that no inline script is needed.
window.addEventListener("load", () => {
  window.SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#docs",
    deepLinking: true,
    displayRequestDuration: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    persistAuthorization: false,
    // Sends nothing to anybody else.
    validatorUrl: null,
  });
});
