"""jsonschema, without its IRI check, whose import takes a second.

If rfc3987_syntax is installed, importing jsonschema compiles its forty grammars. None of our schemas uses that format.
"""

import sys

_hidden = "rfc3987_syntax" not in sys.modules
if _hidden:
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # makes Python treat it as not installed

from jsonschema import Draft202012Validator as Draft202012Validator  # noqa: E402
from jsonschema import validators as validators  # noqa: E402
from jsonschema.exceptions import SchemaError as SchemaError  # noqa: E402
from jsonschema.exceptions import ValidationError as ValidationError  # noqa: E402
from jsonschema.exceptions import best_match as best_match  # noqa: E402

if _hidden:
    del sys.modules["rfc3987_syntax"]
