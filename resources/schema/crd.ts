/**
 * A table as a CustomResourceDefinition: structural schema, CEL rules, printer columns, texts of `kubectl explain`. `npm run docs` writes crds/ from
 * here, and a test compares.
 *
 * Every text and list has a bound, so that the API server can tell what a rule may cost at most.
 */
import { writeYaml } from '../../runtime/yaml.ts'
import { GROUP, kindTable, VERSION } from '../kinds.ts'
import type { Field, ListField, Rule } from './schema.ts'
import { newStatus, type OwnKind, tables } from './tables.ts'

/** Raised with every change of the schemas, and never lowered: an older chart must not replace a newer definition. */
export const SCHEMA_REVISION = 3

type Json = Record<string, unknown>

function schemaOf(field: Field): Json {
  const { about, rules = [] } = field
  const common = {
    description: about,
    ...(field.default !== undefined && { default: field.default }),
    ...(rules.length > 0 && { 'x-kubernetes-validations': rules.map(celRule) }),
  }
  switch (field.type) {
    case 'text':
      return {
        ...common,
        type: 'string',
        ...(field.oneOf && { enum: field.oneOf }),
        ...(field.least !== undefined && { minLength: field.least }),
        ...(field.most !== undefined && !field.oneOf && { maxLength: field.most }),
        ...(field.pattern !== undefined && { pattern: field.pattern }),
      }
    case 'integer':
      return {
        ...common,
        type: 'integer',
        format: field.isLong ? 'int64' : 'int32',
        ...(field.least !== undefined && { minimum: field.least }),
        ...(field.most !== undefined && { maximum: field.most }),
        ...(field.oneOf && { enum: field.oneOf }),
      }
    case 'boolean':
      return { ...common, type: 'boolean' }
    case 'list':
      return {
        ...common,
        type: 'array',
        ...(field.least !== undefined && { minItems: field.least }),
        maxItems: field.most,
        ...listType(field),
        items: schemaOf(field.of),
      }
    case 'map':
      return { ...common, type: 'object', maxProperties: field.most, additionalProperties: schemaOf(field.of) }
    case 'object': {
      const entries = Object.entries(field.fields)
      const required = entries.filter(([, member]) => member.required).map(([name]) => name)
      return {
        ...common,
        type: 'object',
        ...(required.length > 0 && { required }),
        properties: Object.fromEntries(entries.map(([name, member]) => [name, schemaOf(member)])),
      }
    }
  }
}

function listType({ unique }: ListField): Json {
  if (unique === undefined) return { 'x-kubernetes-list-type': 'atomic' }
  if (unique === 'items') return { 'x-kubernetes-list-type': 'set' }
  return { 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': unique }
}

/** What the API server answers where the rule is broken. */
export function celMessage({ problem, right }: Rule): string {
  return `${problem}; ${right}`
}

function celRule(rule: Rule): Json {
  return {
    rule: rule.cel,
    message: celMessage(rule),
    ...(rule.reason && { reason: rule.reason }),
    ...(rule.at !== undefined && { fieldPath: `.${rule.at}` }),
  }
}

export function crdOf(kind: OwnKind): Json {
  const { plural, scope } = kindTable[kind]
  const { about, shortNames, columns, name, rules = [], spec, status } = tables[kind]
  const { type, description, ...bounds } = schemaOf(name)
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      name: `${plural}.${GROUP}`,
      labels: {
        'app.kubernetes.io/name': 'ipref',
        'app.kubernetes.io/component': 'crds',
        [`${GROUP}/schema-revision`]: String(SCHEMA_REVISION),
      },
    },
    spec: {
      group: GROUP,
      scope,
      names: {
        kind,
        listKind: `${kind}List`,
        plural,
        singular: kind.toLowerCase(),
        shortNames,
        categories: ['ipref'],
      },
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          ...(status && { subresources: { status: {} } }),
          additionalPrinterColumns: columns.map(column => ({
            name: column.name,
            type: column.type,
            description: column.about,
            jsonPath: column.path,
            ...(column.isWide && { priority: 1 }),
          })),
          schema: {
            openAPIV3Schema: {
              description: about,
              type: 'object',
              required: ['spec'],
              ...(rules.length > 0 && { 'x-kubernetes-validations': rules.map(celRule) }),
              properties: {
                apiVersion: { type: 'string', description: `${GROUP}/${VERSION}` },
                kind: { type: 'string', description: kind },
                metadata: { type: 'object', properties: { name: { type, ...bounds } } },
                spec: schemaOf(spec),
                ...(status && { status: schemaOf({ ...status, default: newStatus }) }),
              },
            },
          },
        },
      ],
    },
  }
}

export function crdPath(kind: OwnKind): string {
  return `crds/${GROUP}_${kindTable[kind].plural}.yaml`
}

export function renderCrd(kind: OwnKind): string {
  return `# Made by \`npm run docs\` from resources/schema.\n${writeYaml(crdOf(kind))}`
}
