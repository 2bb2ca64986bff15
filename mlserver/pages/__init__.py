"""What every page shares; stands beside mlserver.api, below the apps, and knows none of them."""
