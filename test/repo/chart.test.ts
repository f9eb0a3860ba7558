/** The chart as files: each value explained, versions that agree, no registry named, the kinds of Chart.yaml those of the code. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { API_VERSION, GROUP, kindTable } from '../../resources/kinds.ts'
import { ownKinds } from '../../resources/schema/tables.ts'
import { readYaml } from '../../runtime/yaml.ts'
import { CHART, explainedRows, shapeAt, valueSections } from '../support/chartFiles.ts'
import { PROGRAM_FOLDERS, ROOT, read } from './files.ts'

const chart = readYaml(read(`${CHART}/Chart.yaml`))[0]!.value as {
  version: string
  appVersion: string
  kubeVersion: string
  annotations: Record<string, string>
}

describe('values of the chart', () => {
  const rows = explainedRows(valueSections().flatMap(section => section.rows))

  it('are found at all', () => expect(rows.length).toBeGreaterThan(80))

  it('say what they are, each', () => {
    const isGroup = (value: unknown, path: string[]) =>
      typeof value === 'object' && !Array.isArray(value) && shapeAt(path) === undefined
    const silent = rows.filter(({ about, value, path }) => about === '' && !isGroup(value, path))
    // a switch is explained by what it switches
    expect(silent.map(({ path }) => path.join('.')).filter(path => !/\.enabled$/.test(path))).toEqual([])
  })

  it('and each shape belongs to a value', () => {
    expect(rows.filter(({ path }) => path[0] === 'config').map(({ path }) => path.join('.'))).toEqual(['config'])
  })
})

describe('Chart.yaml', () => {
  it('has the version of the program', () => {
    expect(chart.appVersion).toBe((JSON.parse(read('package.json')) as { version: string }).version)
    expect(read(`${CHART}/CHANGELOG.md`)).toContain(`\n## ${chart.version}\n`)
  })

  it('names our kinds', () => {
    const crds = readYaml(chart.annotations['artifacthub.io/crds']!)[0]!.value as {
      kind: string
      version: string
      name: string
    }[]
    expect(crds.map(({ kind, name, version }) => ({ kind, name, apiVersion: `${GROUP}/${version}` }))).toEqual(
      ['IprefService', 'IprefPeer', 'IprefGateway', 'IprefReference'].map(kind => ({
        kind,
        name: `${kindTable[kind as 'IprefPeer'].plural}.${GROUP}`,
        apiVersion: API_VERSION,
      })),
    )
    expect(crds.map(({ kind }) => kind).sort()).toEqual([...ownKinds].sort())
  })
})

describe('Dockerfile', () => {
  const copied = [...read('Dockerfile').matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(match => match[1]!.split(' '))

  it('copies every folder of the program', () => {
    expect(PROGRAM_FOLDERS.filter(folder => !copied.includes(folder))).toEqual([])
  })

  it('copies what .dockerignore lets through, and that is there', () => {
    const passed = new Set([...read('.dockerignore').matchAll(/^!(.+)$/gm)].map(match => match[1]!))
    const sources = copied.map(path => path.replace(/\/$/, ''))
    expect(sources.filter(path => !passed.has(path))).toEqual([])
    // made by npm run image -- --prepared
    expect(sources.filter(path => path !== '.image/packages' && !existsSync(join(ROOT, path)))).toEqual([])
  })
})

it('neither chart nor Dockerfile names a registry', () => {
  const texts = ['Dockerfile', `${CHART}/values.yaml`, `${CHART}/README.md`, `${CHART}/Chart.yaml`, 'helm/image'].map(
    read,
  )
  expect(
    texts
      .flatMap(text => text.match(/\b[a-z0-9-]+\.(io|com|dev|net|org)\/[a-z]/g) ?? [])
      .filter(host => !/^(ipref|artifacthub|helm|liqo|amazonaws|kubernetes|k8s)\.(io|com|sh)\//.test(host)),
  ).toEqual([])
})
