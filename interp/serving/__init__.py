"""A local page and an OpenAI-compatible API, in which every request has a steering of its own.

Every request needs `Authorization: Bearer TOKEN`, only `GET /` takes the token as `?token=TOKEN`. An error is
`{"error": {"message", "type", "param", "code"}}` with a status of 400 (a wrong request), 401, 403, 404, 405, 408, 413,
429 (too many texts wait, with Retry-After) or 503 (the server stops). Streams are server-sent events, `data: {JSON}`
and a blank line each, and end with `data: [DONE]`; an error after the first event is an event of its own.

- `GET /`: `page.html`, in which `__NONCE__` (for `<style nonce>` and `<script nonce>`; nothing else may run, but
  scripts may set `element.style`), `/*PAGE_CSS*/` and `/*PAGE_JS*/` are filled in, from `interp/reports/page.css` and
  `page.js` beside it. Without a token the answer is 401 with the same page, which asks for it: it holds nothing of the
  model, and a tab that had the token keeps it when it is loaded again.
- `GET /v1/models`, `POST /v1/chat/completions`, `POST /v1/completions`: as OpenAI has them, plus `steering`.
- `GET /api/info`: `{"model", "source", "n_layers", "context_length": int | null, "chat": bool (has a chat template),
  "notes": [str], "directions": [{"name", "labels", "layers", "best_layers", "hook_point", "spread": bool}],
  "operations", "units", "tokens": [str], "defaults": {"operation", "coefficient", "units", "tokens", "temperature",
  "top_p", "max_tokens"}, "limits": {"max_tokens", "texts", "queue", "body_bytes", "seconds"}}`.
- `POST /api/tokens`: `{"text"}`, or `{"messages", "text"}` for what was written after a chat, with `directions` (a
  name, by default the first) → `{"tokens": [str], "n_prompt": int, "labels": [str], "layers": [int],
  "projections": [label][layer][token], "random": [layer]}`: the projection of each token's activations on the unit
  vector in mean lengths of the activations there, and the length that 95 % of those on random directions stay below.
- `POST /api/sweep`: a request for (chat) completions, as `messages` or `prompt`, with a `steering` without its
  coefficient and `coefficients: [float]` → `{"texts": [{"coefficient", "text", "n_tokens", "finish_reason"}]}`; with
  `"stream": true`, events `{"index", "coefficient", "delta": str, "finish_reason": str | null}`.
- `POST /api/command`: the request of (chat) completions or a sweep → `{"command": str, "python": str}`, which do the
  same.

A steering is an object, or a list of objects that all act:
`{"directions": name, by default the first file's, "direction_of": label, seat, list of these, or "random",
"layers": [int], by default the best one, "operation", "coefficient", "units", "tokens", "like": label, "seed": int}`.
A random direction is drawn from the covariance of the activations, from `seed`, as long as that of `like` (by default
the first label). A model named `MODEL+agent-2@0.2` or `MODEL+agent-2@0.2:2+NAME/agent-1@-0.1` is `MODEL` steered so:
a label with dashes for spaces, its coefficient, and optionally its layer.
`finish_reason` is "stop", "length", "timeout" or "overflow" (the steering made the numbers overflow).
"""
