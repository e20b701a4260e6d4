"""Shared prompts."""

from promptreel.schemas.prompt import prompt_from_dict

NESTED = prompt_from_dict(
    {
        "name": "nested",
        "prompt_text": "Describe the segment with everything in it.",
        "json_schema": {
            "type": "object",
            "properties": {
                "summary": {"type": "string"},
                "scene": {
                    "type": "object",
                    "properties": {
                        "location": {"type": "string"},
                        "people_count": {"type": "integer"},
                        "bright": {"type": "boolean"},
                    },
                    "required": ["location"],
                },
                "products": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string"},
                            "price": {"type": "number"},
                            "tags": {"type": "array", "items": {"type": "string"}},
                            "first_seen": {"type": "number", "format": "media-time"},
                        },
                        "required": ["name"],
                    },
                },
                "keywords": {"type": "array", "items": {"type": "string"}},
                "start_time": {"type": "number"},
                "extra": {"type": "object"},
            },
            "required": ["summary", "scene", "products"],
        },
        "video_level": {
            "instructions_text": "Sum the item up.",
            "included_segment_fields": ["summary", "products[].name"],
            "json_schema": {
                "type": "object",
                "properties": {"topic": {"type": "string"}, "count": {"type": "integer"}},
                "required": ["topic"],
            },
        },
    }
)
