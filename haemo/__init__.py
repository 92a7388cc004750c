"""Brain haemorrhage or normal on head-CT slices: frozen AlexNet features, classical heads, honest evaluation.

Beside the public names there are only the modules that every room stands on: `errors`, `progress`,
`atomic` (files written whole or not at all), `cache` (what is kept on this host outside any run) and
`extensions` (what can be chosen by name, also out of plug-ins).
"""
