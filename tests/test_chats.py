"""Whatever a chat template does to messages, a model is shown every persona's prompt once."""

from __future__ import annotations

import copy

import pytest
import token_kinds
from transformers import PreTrainedTokenizerFast

from interp.debate.agents import Request, chat_messages
from interp.debate.personas import KNOWN, PERSONAS
from interp.errors import UserError
from interp.models.loading import load_plain
from interp.models.tokens import prompt_tokens

TURNS = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}[assistant] "
WITHOUT = TURNS.replace("%}[{{", "%}{% if m['role'] != 'system' %}[{{", 1).replace(
    "\n{% endfor", "\n{% endif %}{% endfor", 1
)
TEMPLATES = {
    "kept": (TURNS, False),
    "dropped": (WITHOUT, True),
    "dropped, with a header": ("{% if messages[0]['role'] == 'system' %}[system]\n{% endif %}" + WITHOUT, True),
    "replaced by a default": ("[system] You are helpful.\n" + WITHOUT, True),
    "twice": ("{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}\n{% endif %}" + TURNS, True),
    "refused": ("{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system.') }}{% endif %}" + TURNS, True),
    "alternating": (
        "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Roles must alternate.') }}{% endif %}{% endfor %}" + TURNS,
        True,
    ),
    "in capitals": (TURNS.replace("m['content'] }}", "(m['content'] | upper) }}"), False),
    "in parts": (TURNS.replace("{{ m['content'] }}", "{% for p in m['content'] %}{{ p['text'] }}{% endfor %}"), False),
    "in parts, dropped": (
        WITHOUT.replace("{{ m['content'] }}", "{% for p in m['content'] %}{{ p['text'] }}{% endfor %}"),
        True,
    ),
}


def chatting(template: str) -> PreTrainedTokenizerFast:
    tokenizer = copy.deepcopy(token_kinds.make("qwen-2.5"))
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("round", [1, 2])
def test_every_persona_reaches_the_model(name: str, round: int) -> None:
    template, folds = TEMPLATES[name]
    tokenizer = chatting(template)
    request = Request("1+2", 1) if round == 1 else Request("1+2", 1, 2, "I say 3.", ((2, "No, 4."),))
    shown = {}
    for persona in PERSONAS.values():
        messages = chat_messages(persona, request)
        text = tokenizer.decode(prompt_tokens(tokenizer, messages))
        shown[persona.name] = text
        system = persona.system_prompt.upper() if name == "in capitals" else persona.system_prompt
        assert text.count(system) == 1
        assert (f"[user] {persona.system_prompt}\n\nProblem: 1+2" in text) == folds
        assert text.endswith("[assistant] ")
        for message in messages[1:]:
            content = message["content"].upper() if name == "in capitals" else message["content"]
            assert content in text
    assert len(set(shown.values())) == len(PERSONAS)


def test_a_template_that_puts_everything_is_left_alone() -> None:
    tokenizer, messages = chatting(TURNS), chat_messages(PERSONAS["self-critique"], Request("1+2", 1))
    own = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert prompt_tokens(tokenizer, messages) == tokenizer(own, add_special_tokens=False)["input_ids"]
    thinking = "{% for m in messages %}{{ m['role'] }}: {{ m['content'].split('</think>')[-1] }}\n{% endfor %}"
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>b</think>c"}]
    messages += [{"role": "user", "content": "d"}]
    shown = prompt_tokens(chatting(thinking), messages)
    assert chatting(thinking).decode(shown) == "user: a\nassistant: c\nuser: d\n"


def test_what_no_form_can_put_is_refused_in_one_line() -> None:
    messages = chat_messages(PERSONAS["self-critique"], Request("1+2", 1))
    for template, why in (
        ("Hello. ", "leaves out the"),
        ("{{ raise_exception('Never.\nEver.') }}", "refuses it .Never"),
    ):
        with pytest.raises(
            UserError, match=rf"^tokenizer \S+: its chat template cannot put this chat: {why}"
        ) as caught:
            prompt_tokens(chatting(template), messages)
        assert "\n" not in str(caught.value)


def test_the_organisms_template_keeps_its_own_words() -> None:
    """Its personas are tokens, and prompts of others are not in its language."""
    tokenizer = load_plain("organism").tokenizer
    for persona in KNOWN.values():
        messages = chat_messages(persona, Request("1+2*3+4-5*6", 1))
        own = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        assert prompt_tokens(tokenizer, messages) == tokenizer(own, add_special_tokens=False)["input_ids"]
