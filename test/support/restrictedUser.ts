/** A service account with exactly these rights, and a kubeconfig for it: who the operator is in a cluster. */
import { readFileSync, writeFileSync } from 'node:fs'
import type { Right } from '../../operator/rights.ts'
import { kindTable } from '../../resources/kinds.ts'
import { readYaml, writeYaml } from '../../runtime/yaml.ts'
import { kubectl } from './apiServer.ts'

export interface RestrictedUser {
  /** path of the file */
  kubeconfig: string
  /** These and no others from now on. */
  allow(rights: readonly Right[]): Promise<void>
}

/** `file`: where the kubeconfig goes. */
export async function makeRestrictedUser(
  admin: string,
  { namespace, name, file }: { namespace: string; name: string; file: string },
): Promise<RestrictedUser> {
  const must = async (argv: readonly string[], input = '') => {
    const { code, output, errors } = await kubectl(admin, argv, input)
    if (code !== 0) throw new Error(`kubectl ${argv.join(' ')}: ${errors}`)
    return output.trim()
  }
  await must(['-n', namespace, 'create', 'serviceaccount', name])
  const token = await must(['-n', namespace, 'create', 'token', name])
  const config = readYaml(readFileSync(admin, 'utf8'))[0]!.value as { clusters: { cluster: unknown }[] }
  const { cluster } = config.clusters[0]!
  writeFileSync(
    file,
    writeYaml({
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': name,
      clusters: [{ name: 'here', cluster }],
      users: [{ name, user: { token } }],
      contexts: [{ name, context: { cluster: 'here', user: name } }],
    }),
  )
  const subjects = [{ kind: 'ServiceAccount', namespace, name }]
  const allow = async (rights: readonly Right[]) => {
    const all = [
      ...roleWithBinding('ClusterRole', { name }, rulesOf(rights, 'all'), subjects),
      ...roleWithBinding('Role', { name, namespace }, rulesOf(rights, 'own'), subjects),
    ]
    await must(['apply', '-f', '-'], all.map(one => writeYaml(one)).join('---\n'))
  }
  return { kubeconfig: file, allow }
}

function rulesOf(rights: readonly Right[], where: Right['where']) {
  return rights
    .filter(right => right.where === where)
    .flatMap(({ kind, verbs, status }) => {
      const { apiVersion, plural } = kindTable[kind]
      const apiGroups = [apiVersion.includes('/') ? apiVersion.split('/')[0]! : '']
      return [
        ...(verbs.length > 0 ? [{ apiGroups, resources: [plural], verbs: [...verbs] }] : []),
        ...(status?.length ? [{ apiGroups, resources: [`${plural}/status`], verbs: [...status] }] : []),
      ]
    })
}

function roleWithBinding(kind: 'Role' | 'ClusterRole', metadata: object, rules: object[], subjects: object[]) {
  const apiVersion = 'rbac.authorization.k8s.io/v1'
  const { name } = metadata as { name: string }
  const roleRef = { apiGroup: 'rbac.authorization.k8s.io', kind, name }
  return [
    { apiVersion, kind, metadata, rules },
    { apiVersion, kind: `${kind}Binding`, metadata, roleRef, subjects },
  ]
}
