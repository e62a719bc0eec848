"""jsonschema, without its IRI check, whose import takes a second.

If rfc3987_syntax is installed, importing jsonschema compiles its forty grammars. None of our schemas uses that format.
"""

from scripts.common.hidden import hidden

with hidden("rfc3987_syntax"):
    from jsonschema import Draft202012Validator as Draft202012Validator
    from jsonschema import validators as validators
    from jsonschema.exceptions import SchemaError as SchemaError
    from jsonschema.exceptions import ValidationError as ValidationError
    from jsonschema.exceptions import best_match as best_match
