// Wraps a user-defined tfjs model as a policy: its variables, and a function from token ids to logits.

import * as tf from '@tensorflow/tfjs-core';
import { checkBoolean, checkNumber, checkObject, rangeError, typeError } from '../base/check.js';
import { checkTokenizer, paddingOf, type Tokenizer } from '../text/tokenizer.js';
import { checkVocabulary, type Vocabulary } from '../text/vocabulary.js';
import { vocabularyTokenizer } from '../text/vocabulary-tokenizer.js';
import type { Decoder, Policy, SequenceBatch } from './policy.js';

export interface PolicyDefinition {
  /** Its characters, or your own vocabulary. Either this or `tokenizer`. */
  vocabulary?: string | Vocabulary;
  /** A tokenizer, such as that of a model folder. Either this or `vocabulary`. */
  tokenizer?: Tokenizer;
  /** Number of logits per position, if the model has more than the tokenizer has ids. Default: the same. */
  logitsSize?: number;
  /** The trainable parameters by name: float32 variables. */
  variables: Readonly<Record<string, tf.Variable>>;
  /** See `Policy.logits`. Must be differentiable with respect to the variables, and deterministic. */
  logits: Policy['logits'];
  /**
   * Default false. True saves a second [B * T, V] array: the loss may then overwrite the logits with its gradient, so nothing
   * else may read them; see `inPlace` of `GrpoOptions` for operations that do.
   */
  inPlace?: boolean;
  /** See `Policy.decode`. Default: every new token calls `logits` on its whole sequence. */
  decode?: Policy['decode'];
  /** How a run folder records the policy, besides the variables' names and shapes: plain JSON. Default: nothing. */
  description?: Readonly<Record<string, unknown>>;
}

/** A policy for the trainer. TypeError or RangeError that names the field. `dispose` frees the variables. */
export function definePolicy(definition: PolicyDefinition): Policy {
  const { variables, logits, inPlace = false, decode, description = {} } = definition;
  checkVariables(variables);
  if (typeof logits !== 'function') throw typeError('policy.logits', 'a function', logits);
  if (decode !== undefined && typeof decode !== 'function') throw typeError('policy.decode', 'a function', decode);
  const text = resolveText(definition);
  const { tokenizer } = text;
  return {
    ...text,
    logitsSize: checkLogitsSize(definition.logitsSize ?? tokenizer.vocabularySize, tokenizer),
    variables,
    description: { type: 'custom', ...checkObject('policy.description', description) },
    logits,
    inPlace: checkBoolean('policy.inPlace', inPlace),
    decode: decode ?? ((prompts, rows) => new RecomputingDecoder(logits, prompts, rows, paddingOf(tokenizer))),
    dispose: () => tf.dispose(variables as Record<string, tf.Variable>),
  };
}

/** Checks a policy that is passed to the trainer. */
export function checkPolicy(value: unknown): Policy {
  const policy = checkObject('policy', value) as unknown as Policy;
  if (policy.vocabulary !== undefined) checkVocabulary('policy.vocabulary', policy.vocabulary);
  checkLogitsSize(policy.logitsSize, checkTokenizer('policy.tokenizer', policy.tokenizer));
  checkVariables(policy.variables);
  checkObject('policy.description', policy.description);
  checkBoolean('policy.inPlace', policy.inPlace);
  for (const method of ['logits', 'decode', 'dispose'] as const) {
    if (typeof policy[method] !== 'function') throw typeError(`policy.${method}`, 'a function', policy[method]);
  }
  return policy;
}

function resolveText({ vocabulary, tokenizer }: PolicyDefinition): Pick<Policy, 'vocabulary' | 'tokenizer'> {
  if (tokenizer === undefined) {
    const words = checkVocabulary('policy.vocabulary', vocabulary);
    return { vocabulary: words, tokenizer: vocabularyTokenizer(words) };
  }
  if (vocabulary !== undefined)
    throw typeError('policy.vocabulary', 'nothing if policy.tokenizer is given', vocabulary);
  return { tokenizer: checkTokenizer('policy.tokenizer', tokenizer) };
}

function checkLogitsSize(size: unknown, { vocabularySize }: Tokenizer): number {
  return checkNumber('policy.logitsSize', size, { min: vocabularySize, integer: true });
}

function checkVariables(variables: unknown): void {
  const entries = Object.entries(checkObject('policy.variables', variables));
  if (entries.length === 0) throw rangeError('policy.variables', 'at least one variable', 'none');
  for (const [name, variable] of entries) {
    const field = `policy.variables.${name}`;
    if (!(variable instanceof tf.Variable)) throw typeError(field, 'a tf.Variable', variable);
    if (variable.isDisposed) throw rangeError(field, 'a live variable', 'one that was disposed');
    if (variable.dtype !== 'float32') throw rangeError(field, 'a float32 variable', `dtype ${variable.dtype}`);
  }
}

/** Decoding without a cache. */
class RecomputingDecoder implements Decoder {
  logits: tf.Tensor2D;
  private batch: SequenceBatch;

  constructor(
    private readonly compute: Policy['logits'],
    prompts: SequenceBatch,
    rows: Int32Array,
    private readonly padding: number,
  ) {
    this.batch = {
      sequences: rows.length,
      length: prompts.length,
      tokens: columns(prompts.tokens, rows, prompts.length),
      starts: rows.map((prompt) => prompts.starts[prompt]),
    };
    this.logits = this.last();
  }

  append(appended: Int32Array): void {
    const { sequences, length, tokens } = this.batch;
    const longer = new Int32Array(sequences * (length + 1)).fill(this.padding);
    for (let b = 0; b < sequences; b++) {
      longer.set(tokens.subarray(b * length, (b + 1) * length), b * (length + 1));
      longer[(b + 1) * (length + 1) - 1] = appended[b];
    }
    this.batch = { ...this.batch, length: length + 1, tokens: longer };
    const before = this.logits;
    this.logits = this.last();
    before.dispose();
  }

  dispose(): void {
    this.logits.dispose();
  }

  private last(): tf.Tensor2D {
    return tf.tidy(() => this.compute(this.batch, this.batch.length - 1));
  }
}

/** The rows of [prompts, length] that `rows` names. */
function columns(tokens: Int32Array, rows: Int32Array, length: number): Int32Array {
  const all = new Int32Array(rows.length * length);
  rows.forEach((prompt, b) => {
    all.set(tokens.subarray(prompt * length, (prompt + 1) * length), b * length);
  });
  return all;
}
