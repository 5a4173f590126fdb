"""Home's dashboard: one page shell, people who sign in, and what each may see and do.

Requests pass `access.gate` (host, size, rate, who asks, whose form it is) before `app` answers them; what a page may
do is said by the dependencies of `access.guard`; `render` fills the templates. Everything works without JavaScript.
"""
