"""How every API answers: errors, JSON, paging, roles, routes. Below every app; knows none."""
