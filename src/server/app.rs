//! The gallery: an MCP App (SEP-1865), in which a person sees the candidates of a ranking and asks for
//! the render of one. A host shows it in a frame of its own beside the reply of `rank_seeds`.

use rmcp::model::{JsonObject, MetaObject, ResourceContents};
use serde_json::json;

/// Where the gallery is read.
pub const URI: &str = "ui://foreseed/gallery.html";
/// The extension's name, as client and server declare it.
pub const EXTENSION: &str = "io.modelcontextprotocol/ui";
pub const MIME: &str = "text/html;profile=mcp-app";

/// One file with all that it needs: it asks for nothing over the network.
const HTML: &str = include_str!("gallery.html");

/// The gallery as a resource.
pub fn contents() -> ResourceContents {
    // No domains: the host's policy for it allows none.
    let meta = json!({"ui": {"prefersBorder": false, "csp": {}}});
    let mut contents = ResourceContents::text(HTML, URI).with_mime_type(MIME);
    if let ResourceContents::TextResourceContents { meta: of_text, .. } = &mut contents {
        *of_text = Some(MetaObject(object(meta)));
    }
    contents
}

/// What ties a tool to the gallery.
pub fn shows() -> MetaObject {
    MetaObject(object(json!({"ui": {"resourceUri": URI}})))
}

/// What the server says of itself among its capabilities.
pub fn settings() -> JsonObject {
    object(json!({"mimeTypes": [MIME]}))
}

fn object(value: serde_json::Value) -> JsonObject {
    match value {
        serde_json::Value::Object(object) => object,
        _ => JsonObject::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gallery_reaches_out_to_nobody() {
        for outward in [
            "http://",
            "https://",
            "@import",
            "url(",
            "fetch(",
            "XMLHttpRequest",
            "WebSocket",
        ] {
            // The namespace of SVG is a name, not an address.
            let html = HTML.replace("http://www.w3.org/2000/svg", "");
            assert!(!html.contains(outward), "{outward}");
        }
        assert!(HTML.len() < 64_000, "{} bytes", HTML.len());
    }
}
