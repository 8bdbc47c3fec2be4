"""vLLM's and SGLang's routes for completions and adapters, on a real port, computed by transformers and PEFT in float32.

    rollout_server.py FOLDER [--port PORT]

Prints "listening on PORT" when it is ready. Ends when its standard input does, so that it does not outlive its parent.
POST /fault with {"fault": NAME or null} makes its responses wrong from then on; importing torch takes so long that tests share one server.
Completions are computed one at a time: PEFT's active adapter belongs to the model, not to a request. Stop texts and
several completions of one request are rejected.
"""

import argparse
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

FAULTS = {
    'ignores-loads': 'adapters are loaded but not used',
    'first-adapter': 'all versions are answered with the first one that was loaded',
    'other-adapter': 'every adapter that is loaded is changed',
    'no-temperature': 'log-probs of completions are those at temperature 1',
    'slow': 'a completion takes half a second more, in which the processor has nothing to do',
}


class Refusal(Exception):
    """A request that gets a response with a 4xx status."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Model:
    """A model and its adapters. Its methods are not thread-safe."""

    def __init__(self, folder):
        self.base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        end = self.base.config.eos_token_id
        self.end_tokens = end if isinstance(end, list) else [] if end is None else [end]
        self.peft = None
        self.fault = None
        self.adapters = []
        self.first = None

    def load(self, name, path):
        if name in self.adapters:
            raise Refusal(400, f"The lora adapter '{name}' has already been loaded.")
        if not os.path.isfile(os.path.join(path, 'adapter_config.json')):
            raise Refusal(404, f'No adapter found for {path}')
        if self.peft is None:
            self.peft = PeftModel.from_pretrained(self.base, path, adapter_name=name).eval()
        else:
            self.peft.load_adapter(path, adapter_name=name)
        self.adapters.append(name)
        if self.fault == 'first-adapter':
            self.first = self.first or name
        if self.fault == 'other-adapter':
            generator = torch.Generator().manual_seed(0)
            for key, values in self.peft.named_parameters():
                if 'lora_B' in key and name in key:
                    values.data += torch.randn(values.shape, generator=generator)

    def unload(self, name):
        if name not in self.adapters:
            raise Refusal(404, f"The lora adapter '{name}' cannot be found.")
        self.adapters.remove(name)
        # The fault still needs it.
        if name == self.first:
            return
        if self.adapters or self.first:
            self.peft.delete_adapter(name)
        else:
            # Without any adapter PEFT's layers cannot compute.
            self.base, self.peft = self.peft.unload(), None

    def activate(self, name):
        """The model for the name in a request."""
        if name is None:
            adapter = None
        elif name in self.adapters:
            adapter = {'ignores-loads': None, 'first-adapter': self.first}.get(self.fault, name)
        else:
            raise Refusal(404, f'The model `{name}` does not exist.')
        if self.peft is None:
            return self.base
        if adapter is None:
            self.peft.base_model.disable_adapter_layers()
        else:
            self.peft.base_model.enable_adapter_layers()
            self.peft.set_adapter(adapter)
        return self.peft

    def check_ids(self, ids):
        size = self.base.config.vocab_size
        if not ids or not all(isinstance(i, int) and 0 <= i < size for i in ids):
            raise Refusal(400, f'expected token ids from 0 to {size - 1}')

    @torch.inference_mode()
    def score(self, name, ids):
        """log p(token i + 1 | tokens 0 … i), at temperature 1."""
        self.check_ids(ids)
        logits = self.activate(name)(torch.tensor([ids])).logits[0, :-1]
        log_probs = torch.log_softmax(logits, dim=-1)
        return log_probs.gather(1, torch.tensor(ids[1:], dtype=torch.long)[:, None])[:, 0].tolist()

    @torch.inference_mode()
    def complete(self, name, ids, *, max_tokens, temperature, seed, stop_tokens, bias):
        """Ids, the end token included, their log-probs at the temperature, and the finish reason."""
        self.check_ids(ids)
        model = self.activate(name)
        generator = torch.Generator().manual_seed(seed)
        added = torch.zeros(self.base.config.vocab_size)
        for token, value in bias.items():
            added[int(token)] = value
        tokens, log_probs, cache, given = [], [], None, ids
        if self.fault == 'slow':
            time.sleep(0.5)
        while len(tokens) < max_tokens:
            output = model(torch.tensor([given]), past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            logits = output.logits[0, -1] + added
            drawn_from = torch.log_softmax(logits / (temperature or 1), dim=-1)
            token = drawn_from.argmax() if temperature == 0 else torch.multinomial(
                drawn_from.exp(), 1, generator=generator)[0]
            told = torch.log_softmax(logits, dim=-1) if self.fault == 'no-temperature' else drawn_from
            tokens.append(token.item())
            log_probs.append(told[token].item())
            given = tokens[-1:]
            if tokens[-1] in stop_tokens:
                return tokens, log_probs, 'stop'
        return tokens, log_probs, 'length'


def sampling(model, body, max_tokens, seed):
    """The settings of both kinds of servers. Settings that would otherwise change the distribution are rejected."""
    neutral = {'n': [1], 'top_p': [1], 'top_k': [0, -1], 'min_p': [0], 'repetition_penalty': [1],
               'presence_penalty': [0], 'frequency_penalty': [0], 'stop': [[]]}
    for key, values in neutral.items():
        if key in body and body[key] not in values:
            raise Refusal(400, f'{key}: expected {values[0]}, got {body[key]}')
    stop_tokens = set(body.get('stop_token_ids', []))
    if not body.get('ignore_eos', False):
        stop_tokens.update(model.end_tokens)
    return {'max_tokens': body[max_tokens], 'temperature': body['temperature'], 'seed': body.get(seed, 0),
            'stop_tokens': stop_tokens, 'bias': body.get('logit_bias', {})}


def vllm(model, body):
    ids = body['prompt']
    settings = sampling(model, body, 'max_tokens', 'seed')
    tokens, log_probs, finish = model.complete(body['model'], ids, **settings)
    choice = {'index': 0, 'token_ids': tokens, 'finish_reason': finish,
              'logprobs': {'token_logprobs': log_probs} if 'logprobs' in body else None}
    if 'prompt_logprobs' in body:
        scores = model.score(body['model'], ids)
        choice['prompt_logprobs'] = [None] + [{i: {'logprob': score}} for i, score in zip(ids[1:], scores)]
    return {'object': 'text_completion', 'model': body['model'], 'choices': [choice]}


def sglang(model, body):
    ids = body['input_ids']
    name = body.get('lora_path')
    settings = sampling(model, body['sampling_params'], 'max_new_tokens', 'sampling_seed')
    tokens, log_probs, finish = model.complete(name, ids, **settings)
    meta = {'finish_reason': {'type': finish},
            'output_token_logprobs': [[value, i, None] for value, i in zip(log_probs, tokens)]}
    if 'logprob_start_len' in body:
        scores = [None] + model.score(name, ids)
        meta['input_token_logprobs'] = [[value, i, None] for value, i in zip(scores, ids)]
    return {'output_ids': tokens, 'meta_info': meta}


def set_fault(model, body):
    if body['fault'] not in (None, *FAULTS):
        raise Refusal(400, f"fault: expected null or one of {', '.join(FAULTS)}")
    model.fault = body['fault']
    model.first = None
    return {}


def load(model, body):
    model.load(body['lora_name'], body['lora_path'])
    return {'success': True}


def unload(model, body):
    model.unload(body['lora_name'])
    return {'success': True}


ROUTES = {
    '/fault': set_fault,
    '/v1/completions': vllm,
    '/v1/load_lora_adapter': load,
    '/v1/unload_lora_adapter': unload,
    '/generate': sglang,
    '/load_lora_adapter': load,
    '/unload_lora_adapter': unload,
}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port, model):
        super().__init__(('127.0.0.1', port), Handler)
        self.model = model
        self.computing = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        model = self.server.model
        if self.path == '/health':
            self.answer(200, {})
        elif self.path == '/v1/models':
            names = list(model.adapters)
            self.answer(200, {'object': 'list', 'data': [{'id': name, 'object': 'model'} for name in names]})
        else:
            self.answer(404, {'message': 'no such route'})

    def do_POST(self):
        text = self.rfile.read(int(self.headers.get('content-length', 0)))
        route = ROUTES.get(self.path)
        if route is None:
            return self.answer(404, {'message': 'no such route'})
        try:
            with self.server.computing:
                result = route(self.server.model, json.loads(text))
        except Refusal as refusal:
            self.answer(refusal.status, {'error': {'message': str(refusal)}})
        except (KeyError, TypeError, ValueError) as error:
            self.answer(400, {'error': {'message': f'{type(error).__name__}: {error}'}})
        except Exception as error:
            self.answer(500, {'error': {'message': f'{type(error).__name__}: {error}'}})
        else:
            self.answer(200, result)

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header('content-type', 'application/json')
        self.send_header('content-length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def end_with_input():
    sys.stdin.buffer.read()
    os._exit(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('folder')
    parser.add_argument('--port', type=int, default=0, help='default: any that is free')
    arguments = parser.parse_args()
    threading.Thread(target=end_with_input, daemon=True).start()
    torch.set_num_threads(1)
    server = Server(arguments.port, Model(arguments.folder))
    print(f'listening on {server.server_port}', flush=True)
    server.serve_forever()


if __name__ == '__main__':
    main()
