// Normalises the spelling of an answer: Unicode to LaTeX, no layout commands or formula delimiters, thousands separators marked.
// The patterns may take quadratic time, so long answers are left unchanged.

const unicode: Readonly<Record<string, string>> = {
  '−': '-',
  '–': '-',
  '—': '-',
  '‐': '-',
  '‑': '-',
  '﹣': '-',
  '×': '\\times ',
  '✕': '\\times ',
  '·': '\\cdot ',
  '⋅': '\\cdot ',
  '∙': '\\cdot ',
  '÷': '\\div ',
  '∕': '/',
  '⁄': '/',
  '√': '\\sqrt ',
  '∛': '\\sqrt[3]',
  π: '\\pi ',
  '∞': '\\infty ',
  '≤': '\\le ',
  '≥': '\\ge ',
  '⩽': '\\le ',
  '⩾': '\\ge ',
  '≠': '\\ne ',
  '∈': '\\in ',
  '∪': '\\cup ',
  '∩': '\\cap ',
  '±': '\\pm ',
  '∓': '\\mp ',
  '°': '^\\circ ',
  º: '^\\circ ',
  '∅': '\\emptyset ',
  '′': "'",
  '’': "'",
  '“': '"',
  '”': '"',
  '…': '\\ldots ',
  ℝ: '\\mathbb{R}',
  ℤ: '\\mathbb{Z}',
  ℕ: '\\mathbb{N}',
  ℚ: '\\mathbb{Q}',
  α: '\\alpha ',
  β: '\\beta ',
  γ: '\\gamma ',
  δ: '\\delta ',
  ε: '\\epsilon ',
  θ: '\\theta ',
  λ: '\\lambda ',
  μ: '\\mu ',
  µ: '\\mu ',
  ν: '\\nu ',
  ρ: '\\rho ',
  σ: '\\sigma ',
  τ: '\\tau ',
  φ: '\\phi ',
  ϕ: '\\phi ',
  χ: '\\chi ',
  ψ: '\\psi ',
  ω: '\\omega ',
  Ω: '\\Omega ',
  Δ: '\\Delta ',
  '⌊': '\\lfloor ',
  '⌋': '\\rfloor ',
  '⌈': '\\lceil ',
  '⌉': '\\rceil ',
  '⟨': '\\langle ',
  '⟩': '\\rangle ',
  '∗': '*',
  '∶': ':',
  '：': ':',
  '½': '\\frac{1}{2}',
  '⅓': '\\frac{1}{3}',
  '⅔': '\\frac{2}{3}',
  '¼': '\\frac{1}{4}',
  '¾': '\\frac{3}{4}',
  '⅕': '\\frac{1}{5}',
  '⅖': '\\frac{2}{5}',
  '⅗': '\\frac{3}{5}',
  '⅘': '\\frac{4}{5}',
  '⅙': '\\frac{1}{6}',
  '⅚': '\\frac{5}{6}',
  '⅛': '\\frac{1}{8}',
  '⅜': '\\frac{3}{8}',
  '⅝': '\\frac{5}{8}',
  '⅞': '\\frac{7}{8}',
};

const superscripts = '⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ';
const subscripts = '₀₁₂₃₄₅₆₇₈₉';

/** Characters outside ASCII in LaTeX's spelling; those without one are kept. */
function toLatex(text: string): string {
  return text
    .replace(
      /[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+/g,
      (run) => `^{${Array.from(run, (c) => '0123456789+-n'[superscripts.indexOf(c)]).join('')}}`,
    )
    .replace(/[₀-₉]+/g, (run) => `_{${Array.from(run, (c) => subscripts.indexOf(c)).join('')}}`)
    .replace(/[\uff01-\uff5e]/g, (c) => String.fromCharCode(c.charCodeAt(0) - 0xfee0))
    .replace(/[\u00a0\u2000-\u200a\u202f\u3000]/g, ' ')
    .replace(/[\u200b\u2060\ufeff]/g, '')
    .replace(/[\u0080-\u{10ffff}]/gu, (c) => unicode[c] ?? c);
}

/** Maximum UTF-16 units of an answer that is parsed; a longer one is compared as text. */
export const maxAnswer = 4_000;

/** The answer in one spelling, for the parser and for comparison as text. */
export function normalise(answer: string): string {
  let s = answer.trim();
  if (s.length > maxAnswer) return s;
  if (/[^\x20-\x7e]/.test(s)) s = toLatex(s).replace(/[\t\n\r]/g, ' ');
  if (s.includes('\\')) {
    s = s
      .replace(/\\\\(?:\s?\[[^\][]*\])?/g, '\\newrow ')
      .replace(/(\d)\{?,\}?\\!\s*(?=\d{3})/g, '$1{,}')
      .replace(/(\d)\\[,;]\s*(?=\d{3}(?!\d))/g, '$1{,}')
      .replace(/\\(?:left|right|middle|[bB]igg?[lrm]?)(?![a-zA-Z])\s*\.?/g, '')
      .replace(/\\[dtc]frac(?![a-zA-Z])/g, '\\frac')
      .replace(/\\[dt]binom(?![a-zA-Z])/g, '\\binom')
      .replace(
        /\\(?:displaystyle|textstyle|limits|nolimits|rm|bf|it|boldsymbol|mathbf|mathit|bm|mathsf)(?![a-zA-Z])/g,
        '',
      )
      .replace(/\\(?:quad|qquad|enspace|thinspace|hfill|!)(?![a-zA-Z])|\\[!]/g, ' ')
      .replace(/\\[,;:> ]|\\hspace\s?\{[^{}]*\}/g, ' ')
      .replace(/\\[()[\]](?=\s|$)|^\s*\\[([]/g, ' ')
      .replace(/\\%/g, '%')
      .replace(/\\(?:geqslant|geq)(?![a-zA-Z])/g, '\\ge')
      .replace(/\\(?:leqslant|leq)(?![a-zA-Z])/g, '\\le')
      .replace(/\\neq(?![a-zA-Z])/g, '\\ne')
      .replace(/\\lbrace(?![a-zA-Z])/g, '\\{')
      .replace(/\\rbrace(?![a-zA-Z])/g, '\\}');
  }
  s = s.replace(/~/g, ' ').trim();
  s = withoutDelimiters(s).trim();
  s = s.replace(/[\s.;,:]+$/, '');
  return s.replace(/ +/g, ' ');
}

/** Removes the dollars around formulas; an unpaired dollar before a number is currency. */
function withoutDelimiters(text: string): string {
  const parts = text.split(/(?<!\\)\${1,2}/);
  if (parts.length < 3 || parts.length % 2 === 0) return text;
  const areFormulas = parts.every((part, i) => i % 2 === 0 || (part.trim() === part && part !== ''));
  const followed = parts.some((part, i) => i % 2 === 0 && i > 0 && /^\d/.test(part));
  return parts.length === 3 && parts[0] === '' && parts[2] === ''
    ? parts[1]
    : areFormulas && !followed
      ? parts.join('')
      : text;
}

/** Answers with equal keys are the same, whatever they mean: spaces matter only between digits and between letters. */
export function textKey(normal: string): string {
  return normal.replace(/\\frac\s?(\d)\s?(\d)(?!\d)/g, '\\frac{$1}{$2}').replace(/ ?([^\p{L}\d\s]) ?/gu, '$1');
}

const wrappers = /\\(?:text|textrm|textbf|textit|textnormal|mbox|hbox|mathrm|operatorname)\s?\{([^{}]*)\}/g;

/** Only the words: without commands around them, case, and quotes or brackets around the whole. */
export function wordsOf(normal: string): string {
  return normal
    .replace(wrappers, '$1')
    .replace(/[{}"'*`]/g, '')
    .replace(/\s+/g, ' ')
    .trim()
    .replace(/^\((.*)\)$/, '$1')
    .replace(/[\s.]+$/, '')
    .toLowerCase();
}
