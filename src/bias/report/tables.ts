// The comparisons of the bias study as tables: a row for each p, a column for each group size; also as text for a terminal.

import { averageLimits, type BiasSettings, type Comparison, families, sigma } from '../bias-study.js';

export interface BiasTable {
  title: string;
  note?: string;
  /** Label of the rows. */
  label: string;
  groupSizes: readonly number[];
  rows: { label: string; cells: Comparison[] }[];
  /** Whether values are shown with a sign. */
  signed: boolean;
}

export function biasTables(comparisons: readonly Comparison[], { groupSizes, epsilon }: BiasSettings): BiasTable[] {
  const table = (
    about: Omit<BiasTable, 'groupSizes' | 'rows'>,
    isIn: (one: Comparison) => boolean,
    rowOf = ({ p }: Comparison): string => String(Number(p.toFixed(2))),
  ): BiasTable => {
    const rows = new Map<string, Comparison[]>();
    for (const one of comparisons.filter(isIn)) rows.set(rowOf(one), [...(rows.get(rowOf(one)) ?? []), one]);
    return { ...about, groupSizes, rows: [...rows].map(([label, cells]) => ({ label, cells })) };
  };
  const isBernoulli = ({ rewards }: Comparison) => rewards === 'bernoulli';
  const epsilons = epsilon === 0 ? [0] : [0, epsilon];
  return [
    table(
      { title: 'Groups with a gradient, P(S)', label: 'p', signed: false },
      (one) => isBernoulli(one) && one.quantity === 'gradient_share',
    ),
    table(
      { title: 'Bias of the advantage, A - E[Â | S] = E[p̂ | S] - p', label: 'p', signed: true },
      (one) => isBernoulli(one) && one.quantity === 'bias',
    ),
    ...epsilons.map((margin) => {
      const [below, beyond] = margin === 0 ? ['A', 'A'] : [`A - ${margin}`, `A + ${margin}`];
      return table(
        {
          title: `How often advantages are misjudged${margin === 0 ? '' : ` by more than ${margin}`}`,
          note: `p < 0.5: underestimated, P(Â < ${below} | S); p > 0.5: over, P(Â > ${beyond} | S)`,
          label: 'p',
          signed: false,
        },
        ({ quantity, epsilon: at, p }) =>
          at === margin && ((quantity === 'underestimated' && p < 0.5) || (quantity === 'overestimated' && p > 0.5)),
      );
    }),
    table(
      {
        title: 'Underestimated on average over prompts, P(Â < A | S) (tables 4 to 6)',
        note: 'p uniform from 0 on; 2/G is capped at 0.5. Overestimated: the mirror image',
        label: '',
        signed: false,
      },
      ({ quantity }) => quantity === 'average_underestimated',
      ({ interval }) => averageLimits.find(({ name }) => name === interval)!.name,
    ),
    ...families.map(({ rewards, description }) =>
      table(
        {
          title: `Bias for continuous rewards, groups with max - min > ${sigma} (theorem 4)`,
          note: `Rewards from ${description}`,
          label: 'mean',
          signed: true,
        },
        (one) => one.rewards === rewards && one.quantity === 'bias',
      ),
    ),
  ];
}

/** Group sizes side by side on 80 columns. */
const maxColumns = 4;

/** A table as lines of at most 80 columns: theory, and the simulation's deviation in standard errors. */
export function tableText({ title, note, label, groupSizes, rows, signed }: BiasTable): string {
  const lines = [title, ...(note ? [note] : [])];
  for (let start = 0; start < groupSizes.length; start += maxColumns) {
    const line = (head: string, cells: readonly string[]) =>
      head.padEnd(10) +
      cells
        .slice(start, start + maxColumns)
        .map((cell) => cell.padStart(16))
        .join('');
    lines.push(
      line(
        label,
        groupSizes.map((groupSize) => `G = ${groupSize}       `),
      ),
    );
    for (const row of rows) {
      lines.push(
        line(
          row.label,
          row.cells.map(({ theory, deviation }) => `${decimals(theory, 4, signed)} (${deviations(deviation)})`),
        ),
      );
    }
  }
  return lines.map((text) => text.trimEnd()).join('\n');
}

/** Text in lines of at most 80 columns. */
export function wrapped(text: string): string {
  const lines = [''];
  for (const word of text.split(' ')) {
    const last = lines[lines.length - 1];
    if (last !== '' && last.length + 1 + word.length > 80) lines.push(word);
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`;
  }
  return lines.join('\n');
}

/** A number with a given number of decimals, and optionally a sign; values that round to 0 have none. */
export function decimals(value: number, digits: number, signed = false): string {
  if (Number.isNaN(value)) return 'none';
  const text = value.toFixed(digits);
  if (Number(text) === 0) return (0).toFixed(digits);
  return signed && value > 0 ? `+${text}` : text;
}

/** A deviation in standard errors. */
export function deviations(value: number): string {
  return decimals(value, 1, true).padStart(4);
}

/** A comparison described in words. */
export function inWords({ quantity, rewards, groupSize, p, interval, epsilon }: Comparison): string {
  const event = rewards === 'bernoulli' ? 'S' : 'S_σ';
  const margin =
    epsilon === undefined || epsilon === 0 ? '' : ` ${quantity === 'underestimated' ? '-' : '+'} ${epsilon}`;
  const names: Record<Comparison['quantity'], string> = {
    gradient_share: `P(${event})`,
    baseline: `E[p̂ | ${event}]`,
    bias: `A - E[Â | ${event}]`,
    underestimated: `P(Â < A${margin} | ${event})`,
    overestimated: `P(Â > A${margin} | ${event})`,
    average_underestimated: `mean of P(Â < A | ${event})`,
  };
  const where = interval ?? `${rewards === 'bernoulli' ? 'p' : `${rewards}, mean`} = ${Number(p.toFixed(3))}`;
  return `${names[quantity]}, ${where}, G = ${groupSize}`;
}

/** How well simulation and theory agree, in a sentence. */
export function agreement(comparisons: readonly Comparison[], largest: Comparison, samples: number): string {
  const far = comparisons.filter(({ deviation }) => Math.abs(deviation) > 4).length;
  return [
    `${comparisons.length} numbers, each from ${samples} simulated groups: the largest deviation from the theory is`,
    `${decimals(Math.abs(largest.deviation), 1)} standard errors (${inWords(largest)}); ${far === 0 ? 'none is' : `${far} are`} beyond 4.`,
  ].join(' ');
}
