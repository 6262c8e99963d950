//go:build assets

package programs

// embedded is empty in an `assets` build: the programs come from KUBEBUILDER_ASSETS, so nothing big is compiled.
var embedded = map[string]func(){}
