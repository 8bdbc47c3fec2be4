"""Results of transformers and PEFT, in float32, for folders of models: log-probs of sequences, greedy continuations, and
gradients of a weighted sum of the log-probs of sequence 2, each as its product with a fixed direction and its norm.

usage: pretrained.py FOLDER... > expected.json        with torch, transformers and peft; FOLDER-adapter is used if it exists
       pretrained.py --story FOLDER TEXT COUNT        the greedy continuation of a text: {"prompt": ids, "tokens": ids, "text": text}
       pretrained.py --log-probs FOLDER < asked.json  of the requested sequences, with the adapter in the folder "adapter" unless it
                                                      is null, in a model loaded by PEFT: {"adapter": null, "sequences": []}
       pretrained.py --new-adapter FOLDER TO          saves a random PEFT adapter of queries and the unembedding, and prints its
                                                      log-probs in the format of expected.json's sequences

The sequences are those of `expected.json` next to the folders. Weights are read as stored and used in float32, with
plain attention; the log-softmax is in float64.
"""

import json
import os
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def log_probs(model, tokens):
    with torch.no_grad():
        rows = model(torch.tensor([tokens])).logits[0].double().log_softmax(-1)
    return [rows[i, token].item() for i, token in enumerate(tokens[1:])]


def greedy(model, prompt, count):
    tokens = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            tokens.append(model(torch.tensor([tokens])).logits[0, -1].argmax().item())
    return tokens[len(prompt) :]


def gradients(model, tokens, parameters):
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
        parameter.grad = None
    rows = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    weights = torch.sin(3.0 * torch.arange(len(tokens) - 1))
    sum(weights[i] * rows[i, token] for i, token in enumerate(tokens[1:])).backward()
    results = {}
    for name, parameter in parameters.items():
        gradient = parameter.grad.double().flatten()
        direction = torch.sin(3.0 * torch.arange(gradient.numel(), dtype=torch.float64))
        results[name] = [(gradient @ direction).item(), gradient.norm().item()]
    return results


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def story(folder, text, count):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.encode(text)
    tokens = greedy(load(folder), prompt, int(count))
    return {"prompt": prompt, "tokens": tokens, "text": tokenizer.decode(tokens, skip_special_tokens=True)}


def asked_log_probs(folder):
    asked = json.load(sys.stdin)
    model = load(folder)
    if asked["adapter"] is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, asked["adapter"]).eval()
    return [log_probs(model, tokens) for tokens in asked["sequences"]]


def new_adapter(folder, to):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    config = LoraConfig(
        r=3, lora_alpha=5, target_modules=["q_proj", "lm_head"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    model = get_peft_model(load(folder), config).eval()
    model.save_pretrained(to)
    with open(os.path.join(os.path.dirname(folder), "expected.json")) as file:
        sequences = json.load(file)[os.path.basename(folder)]["sequences"]
    return [log_probs(model, tokens) for tokens in sequences]


def main():
    modes = {"--new-adapter": new_adapter, "--story": story, "--log-probs": asked_log_probs}
    if sys.argv[1] in modes:
        json.dump(modes[sys.argv[1]](*sys.argv[2:]), sys.stdout)
        return
    results = {}
    for folder in sys.argv[1:]:
        name = os.path.basename(folder)
        with open(os.path.join(os.path.dirname(folder), "expected.json")) as file:
            sequences = json.load(file)[name]["sequences"]
        model = load(folder)
        own = {
            "logProbs": [log_probs(model, tokens) for tokens in sequences],
            "greedy": [greedy(model, tokens[:5], 12) for tokens in sequences[1:]],
        }
        own["gradients"] = gradients(model, sequences[2], dict(model.named_parameters()))
        if os.path.isdir(folder + "-adapter"):
            from peft import PeftModel

            adapted = PeftModel.from_pretrained(model, folder + "-adapter").eval()
            own["adapterLogProbs"] = [log_probs(adapted, tokens) for tokens in sequences]
            lora = {name: value for name, value in adapted.named_parameters() if "lora_" in name}
            own["adapterGradients"] = gradients(adapted, sequences[2], lora)
        results[name] = own
    json.dump(results, sys.stdout)


main()
