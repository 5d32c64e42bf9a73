Rails.application.routes.draw do
  root to: "facts#show"
  get "crash", to: "facts#crash"
end
